//! HTTPS as every client here speaks it. One TLS configuration serves a process, as reading the system's root certificates costs
//! more than all else in a first invocation.
//!
//! Whom a client asks, what for and how long it waits is the client's own business.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{ClientBuilder, redirect::Policy};
use rustls::{ClientConfig, crypto::aws_lc_rs::default_provider};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Why there is no TLS on this machine.
#[derive(Debug, thiserror::Error)]
#[error(
    "TLS cannot be set up ({0}): the system's root certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR, are needed"
)]
pub struct Error(#[from] rustls::Error);

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
