//! HTTPS as every client here speaks it. One TLS configuration serves a process, as reading the system's root certificates costs
//! more than all else in a first invocation.
//!
//! Whom a client asks, what for and how long it waits is the client's own business.

use std::iter;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{ClientBuilder, redirect::Policy};
use rustls::{ClientConfig, crypto::aws_lc_rs::default_provider};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Why there is no client on this machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TLS.
    #[error(
        "TLS cannot be set up ({0}): the system's root certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR, are needed"
    )]
    Tls(#[from] rustls::Error),
    /// The HTTP library refuses its settings, such as a proxy of the environment.
    #[error("the HTTPS client cannot be set up: {0}")]
    Client(String),
}

/// The client for what stands at `url`: [`builder`]'s, and past every proxy where it is `http://`.
///
/// # Errors
/// As [`builder`].
pub fn client(url: &str) -> Result<reqwest::Client, Error> {
    let mut client = builder()?;
    if url.starts_with("http://") {
        // That is on loopback, and a proxy would only carry the keys off this machine in clear text.
        client = client.no_proxy();
    }
    client.build().map_err(|error| Error::Client(explain(error)))
}

/// The start of a client: TLS 1.2 at least, the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` in their place where they are
/// set), no redirect followed.
///
/// The roots are read at the first call. Those that change later are seen by the next process.
///
/// # Errors
/// Where no root certificate can be read. The next call tries again.
pub fn builder() -> Result<ClientBuilder, Error> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls()?)
        .user_agent(concat!("mimecast-devo/", env!("CARGO_PKG_VERSION")))
        // A redirect could carry the credentials to another host.
        .redirect(Policy::none())
        .connect_timeout(Duration::from_secs(10))
        // Lambda freezes between runs, and a socket that was frozen is likely dead.
        .pool_idle_timeout(Duration::from_secs(20)))
}

/// What went wrong on the way, in one line: at which host, why, and which proxy of the environment may be to blame. The URL is left
/// out, as it may hold a token or a signature.
#[expect(clippy::disallowed_methods, reason = "the variables are the HTTP library's, which reads them itself")]
pub fn explain(error: reqwest::Error) -> String {
    let url = error.url().filter(|_| error.is_connect());
    let proxy = url.filter(|url| url.scheme() == "https").and_then(|_| proxy(|name| std::env::var(name).ok()));
    let host = error.url().and_then(|url| url.host_str()).map(|host| format!("{host}: ")).unwrap_or_default();
    let error = error.without_url();
    let chain = iter::successors(Some(&error as &dyn std::error::Error), |error| (*error).source());
    let causes: Vec<String> = chain.map(ToString::to_string).collect();
    // What the HTTP library calls its own steps says nothing to anybody.
    let said =
        causes.iter().filter(|cause| !["error sending request", "client error (Connect)"].contains(&cause.as_str()));
    let said: Vec<&str> = said.map(String::as_str).collect();
    let text = if said.is_empty() { causes.join(": ") } else { said.join(": ") };
    match proxy {
        Some((variable, proxy)) => format!("{host}{text} (by the proxy {proxy}, which {variable} names)"),
        None => format!("{host}{text}"),
    }
}

/// The proxy for `https:`: the variable that names it, and its address without user and password.
fn proxy(variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let (name, url) = names.into_iter().find_map(|name| Some((name, variable(name).filter(|url| !url.is_empty())?)))?;
    let address = url.split_once("://").map_or(&*url, |(_, rest)| rest);
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    Some((name, address.trim_end_matches('/').to_owned()))
}

/// The configuration of this process; copies share the roots and the sessions to resume.
fn tls() -> Result<ClientConfig, rustls::Error> {
    static TLS: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = TLS.get() {
        return Ok(config.clone());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TLS.get_or_init(|| config).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let set =
            |name: &'static str, value: &'static str| proxy(move |asked| (asked == name).then(|| value.to_owned()));
        assert_eq!(
            set("HTTPS_PROXY", "http://user:s3cret@proxy:3128/"),
            Some(("HTTPS_PROXY", "proxy:3128".to_owned()))
        );
        assert_eq!(set("all_proxy", "socks5h://proxy:1080"), Some(("all_proxy", "proxy:1080".to_owned())));
        assert_eq!(set("https_proxy", "proxy:3128"), Some(("https_proxy", "proxy:3128".to_owned())));
        assert_eq!(set("HTTPS_PROXY", ""), None);
        assert_eq!(set("HTTP_PROXY", "http://proxy:3128"), None);
    }
}
