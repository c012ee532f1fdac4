//! Which variable leads to which API. An address that the caller's environment names already is where the calls go.

use std::ffi::OsString;

use hyper::Uri;

/// One variable that an agent takes its API's address from, and the address behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The variable.
    pub variable: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host, and port where it is not the scheme's.
    pub authority: String,
    /// The path that requests are below, without a slash at its end.
    pub path: String,
}

/// An address that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={address:?} is no address of an API: write e.g. https://api.example.com/v1")]
pub struct RouteError {
    variable: String,
    address: String,
}

/// Variables that real agents take their API's address from, and where they go without one. Those without an address are
/// metered only where the caller has set them.
const KNOWN: [(&str, Option<&str>); 6] = [
    ("OPENAI_BASE_URL", Some("https://api.openai.com/v1")),
    ("OPENAI_API_BASE", Some("https://api.openai.com/v1")),
    ("ANTHROPIC_BASE_URL", Some("https://api.anthropic.com")),
    ("GOOGLE_GEMINI_BASE_URL", Some("https://generativelanguage.googleapis.com")),
    ("COPILOT_PROVIDER_BASE_URL", None),
    ("OPENROUTER_BASE_URL", None),
];

impl Route {
    /// A route to an address.
    pub fn to(variable: &str, address: &str) -> Result<Self, RouteError> {
        let wrong = || RouteError { variable: variable.to_owned(), address: address.to_owned() };
        let uri: Uri = address.trim().parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or_else(wrong)?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let is_name = !variable.is_empty() && !variable.bytes().any(|byte| byte == b'=' || byte == 0);
        if uri.query().is_some() || !is_name {
            return Err(wrong());
        }
        Ok(Self {
            variable: variable.to_owned(),
            scheme: scheme.to_owned(),
            authority: authority.as_str().to_owned(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The address again.
    pub fn address(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path)
    }

    /// The path that the agent is shown behind the meter's own: the same as upstream's, since some agents look at it.
    pub(super) fn shown_path(&self) -> &str {
        &self.path
    }
}

/// The routes of a run: the known variables, those of the environment, and those that were asked for, which are stronger.
pub fn routes(
    asked: &[(String, String)],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Route>, RouteError> {
    let mut routes = Vec::new();
    for (variable, usual) in KNOWN {
        if asked.iter().any(|(name, _)| name == variable) {
            continue;
        }
        let set = environment(variable).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty());
        if let Some(address) = set.as_deref().or(usual) {
            routes.push(Route::to(variable, address)?);
        }
    }
    for (variable, address) in asked {
        routes.push(Route::to(variable, address)?);
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_set_already_is_where_calls_go_and_one_that_was_asked_for_is_stronger() {
        let set = |name: &str| (name == "OPENAI_BASE_URL").then(|| OsString::from("http://127.0.0.1:8080/ok/v1/"));
        let found = routes(&[("MY_URL".to_owned(), "https://x.example".to_owned())], set).expect("addresses");
        let of = |name: &str| found.iter().find(|route| route.variable == name).cloned().expect("a route");
        let openai = of("OPENAI_BASE_URL");
        assert_eq!((openai.scheme.as_str(), openai.authority.as_str()), ("http", "127.0.0.1:8080"));
        assert_eq!(openai.path, "/ok/v1");
        assert_eq!(of("ANTHROPIC_BASE_URL").authority, "api.anthropic.com");
        assert_eq!(of("MY_URL").path, "");
        assert!(!found.iter().any(|route| route.variable == "COPILOT_PROVIDER_BASE_URL"));
        let asked = [("OPENAI_BASE_URL".to_owned(), "https://y.example/v2".to_owned())];
        let found = routes(&asked, set).expect("addresses");
        assert_eq!(found.iter().filter(|route| route.variable == "OPENAI_BASE_URL").count(), 1);
        for wrong in ["", "x", "ftp://a/b", "http://", "https://user:secret@h/", "https://h/?q=1", "/v1"] {
            assert!(Route::to("V", wrong).is_err(), "{wrong}");
        }
    }
}
