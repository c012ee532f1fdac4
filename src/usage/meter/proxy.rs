//! The proxy itself: a request is found its route, sent upstream as it is, and its answer is sent back as it comes.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::oneshot;

use crate::model::Timestamp;
use crate::usage::wire::is_model_call;

use super::answer::{Answer, Begun, Told};
use super::route::Route;
use super::upstream::Connector;
use super::{Ledger, Passage};

type Upstream = Client<HttpsConnector<Connector>, Incoming>;
type Sent = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

/// Headers that are between two neighbours and not between the ends (RFC 9110, 7.6.1).
const OF_A_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "transfer-encoding", "upgrade"];

/// Everything a request needs.
#[derive(Clone)]
pub(super) struct Proxy {
    routes: Arc<Vec<Route>>,
    secret: Arc<str>,
    client: Upstream,
    ledger: Arc<dyn Ledger>,
}

/// The client that calls go upstream by.
pub(super) fn client() -> Result<Upstream, rustls::Error> {
    let builder = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
    };
    let config = match builder()?.with_native_roots() {
        Ok(trusting) => trusting.with_no_client_auth(),
        // Without certificates no server can be known: a call that needs one is answered so.
        Err(_) => builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config);
    let connector = builder.https_or_http().enable_http1().wrap_connector(Connector::new());
    Ok(Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector))
}

impl Proxy {
    pub(super) fn new(routes: Arc<Vec<Route>>, secret: String, client: Upstream, ledger: Arc<dyn Ledger>) -> Self {
        Self { routes, secret: secret.into(), client, ledger }
    }

    /// The route of a path, and what follows its own part of it.
    fn route<'a>(&self, path: &'a str) -> Option<(&Route, &'a str)> {
        let rest = path.strip_prefix('/')?.strip_prefix(&*self.secret)?.strip_prefix('/')?;
        let (number, _) = rest.split_once('/').unwrap_or((rest, ""));
        let route = self.routes.get(number.parse::<usize>().ok()?)?;
        Some((route, &rest[number.len()..]))
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Sent, hyper_util::client::legacy::Error> {
        let begun = Instant::now();
        let whole = request.uri().path().to_owned();
        let Some((route, path)) = self.route(&whole) else {
            return Ok(refusal(StatusCode::NOT_FOUND, "not here"));
        };
        if request.headers().contains_key(UPGRADE) {
            return Ok(refusal(StatusCode::UPGRADE_REQUIRED, "the meter speaks plain HTTP: send a request"));
        }
        let mut told = None;
        if is_model_call(request.method().as_str(), path) {
            if self.ledger.begins() == Passage::Refused {
                return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "the budget of this run is spent"));
            }
            let begun = Begun { time: now(), at: begun, route: route.variable.clone() };
            told = Some(Told::new(begun, Arc::clone(&self.ledger)));
        }
        let sent = match upstream(route, path, request) {
            Ok(request) => self.client.request(request).await,
            Err(why) => return Ok(refusal(StatusCode::BAD_REQUEST, &why)),
        };
        match sent {
            Ok(mut answer) => {
                let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
                let (content_type, retry_after) = (header(CONTENT_TYPE).unwrap_or(""), header(RETRY_AFTER));
                told.iter_mut().for_each(|told| told.answered(answer.status().as_u16(), content_type, retry_after));
                drop_hop_headers(answer.headers_mut());
                Ok(answer.map(|body| Answer::new(body, told).boxed_unsync()))
            }
            Err(error) if error.is_connect() => Ok(refusal(StatusCode::BAD_GATEWAY, &words(&error))),
            // The agent sees what it would have seen: a connection that ends without an answer.
            Err(error) => Err(error),
        }
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// An error and what is behind it.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// An answer of the meter's own, in a shape that every API's clients can read.
fn refusal(status: StatusCode, why: &str) -> Sent {
    let body = serde_json::json!({ "error": { "type": "agentguard_meter", "message": format!("agentguard: {why}") } });
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The same request, to the address behind the route.
fn upstream(route: &Route, path: &str, mut request: Request<Incoming>) -> Result<Request<Incoming>, String> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path };
    let uri = Uri::builder()
        .scheme(route.scheme.as_str())
        .authority(route.authority.as_str())
        .path_and_query(format!("{path}{query}"))
        .build()
        .map_err(|error| error.to_string())?;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    drop_hop_headers(headers);
    let host = HeaderValue::from_str(&route.authority).map_err(|error| error.to_string())?;
    headers.insert(HOST, host);
    // What is compressed could not be read in passing.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
}

fn drop_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in OF_A_HOP {
        headers.remove(name);
    }
}

/// Serves until it is told to stop; calls that are on their way are dropped, and so told of.
pub(super) async fn serve(listener: TcpListener, proxy: Proxy, stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let accepting = tokio::spawn(accept(listener, proxy));
    // A sender that is gone says the same.
    let _ = stopped.await;
    accepting.abort();
    let _ = accepting.await;
}

/// Accepts connections for ever. Those that were accepted end with it.
async fn accept(listener: tokio::net::TcpListener, proxy: Proxy) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is free: one may be, a moment later.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Small pieces must not wait for one another.
        let _ = stream.set_nodelay(true);
        let proxy = proxy.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| proxy.clone().answer(request));
            // An error is the agent's side going away, or an answer that was cut: which it sees as it is.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
