//! The meter: a reverse proxy on loopback between an agent and its API, which reads usage off the wire.
//!
//! Bytes pass unchanged and at once; what an answer says of its use is read beside. It listens on loopback only, under a path
//! that cannot be guessed, keeps no header and no body, and counts a call that was cut as one of unknown use. It asks for
//! answers that are not compressed, and refuses upgrades (WebSockets), after which agents fall back to plain requests.

mod answer;
mod proxy;
mod route;
mod upstream;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::model::call::Call;

pub use route::{Route, RouteError, routes};

/// Whoever hears of calls. Asked from the meter's own thread.
pub trait Ledger: Send + Sync {
    /// A call wants to pass: whether it may. Asked before anything of it goes upstream.
    fn begins(&self) -> Passage;

    /// A call is over.
    fn ended(&self, call: Call);
}

/// Whether a call may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It goes upstream.
    Passes,
    /// Its budget is spent: it is answered with 429 and goes nowhere.
    Refused,
}

/// A running meter; it ends when this is dropped, with every call that is still on its way.
#[derive(Debug)]
pub struct Meter {
    address: SocketAddr,
    secret: String,
    routes: Arc<Vec<Route>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no meter.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// No port.
    #[error("cannot listen on loopback")]
    Listen(#[source] io::Error),
    /// No thread, or no event loop for it.
    #[error("cannot start the meter")]
    Start(#[source] io::Error),
    /// No way to speak TLS.
    #[error("cannot speak TLS")]
    Tls(#[source] rustls::Error),
}

impl Meter {
    /// Starts one; `secret` is a part of its path.
    pub fn start(routes: Vec<Route>, secret: String, ledger: Arc<dyn Ledger>) -> Result<Self, MeterError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(MeterError::Listen)?;
        let address = listener.local_addr().map_err(MeterError::Listen)?;
        listener.set_nonblocking(true).map_err(MeterError::Listen)?;
        let routes = Arc::new(routes);
        let client = proxy::client().map_err(MeterError::Tls)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MeterError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let service = proxy::Proxy::new(Arc::clone(&routes), secret.clone(), client, ledger);
        let thread = std::thread::Builder::new()
            .name("agentguard-meter".to_owned())
            .spawn(move || runtime.block_on(proxy::serve(listener, service, stopped)))
            .map_err(MeterError::Start)?;
        Ok(Self { address, secret, routes, stop: Some(stop), thread: Some(thread) })
    }

    /// The variables that lead an agent here, and their values.
    pub fn variables(&self) -> impl Iterator<Item = (&str, String)> {
        self.routes.iter().enumerate().map(|(at, route)| (route.variable.as_str(), self.base(at)))
    }

    /// The address of a variable, if it is metered.
    pub fn base_of(&self, variable: &str) -> Option<String> {
        self.routes.iter().position(|route| route.variable == variable).map(|at| self.base(at))
    }

    fn base(&self, at: usize) -> String {
        // An agent that adds its own version to a base finds the upstream's own path behind it.
        format!("http://{}/{}/{at}{}", self.address, self.secret, self.routes[at].shown_path())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // The thread may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
