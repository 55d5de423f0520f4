//! Mutual TLS with the Devo secret: `chain` is the only CA trusted, `cert` and `key` are what we prove ourselves with.
//!
//! Says in one line what is wrong with either side's certificate and what to do.

use std::{io, sync::Arc, time::Duration};

use chrono::DateTime;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        server::{
            WebPkiClientVerifier,
            danger::{ClientCertVerified, ClientCertVerifier},
        },
    },
};

use crate::{Credentials, Error};

/// How long before its end a certificate is warned of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
const WEAK: &str = "ask Devo for new certificates, or send by https:// or through a relay (tcp://, relp://)";

/// How to speak TLS with one host. Sessions are resumed.
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    cert: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    pub fn new(host: &str, credentials: Option<&Credentials>) -> Result<Self, Error> {
        let [chain, cert, key] = Credentials::require(credentials, ["chain", "cert", "key"])?;
        let bad = |text: String| Error::Configuration(format!("devo secret: {text}"));
        let mut roots = RootCertStore::empty();
        for certificate in certificates("chain", &chain)? {
            roots.add(certificate).map_err(|error| bad(format!("chain cannot be used: {error}")))?;
        }
        let roots = Arc::new(roots);
        let cert = certificates("cert", &cert)?;
        if key.expose_secret().contains("ENCRYPTED") {
            return Err(bad("key is protected by a passphrase: store it without one".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(pem(&key).expose_secret().as_bytes())
            .map_err(|_| bad(format!("key holds no private key in PEM form{}", hint(&key))))?;
        let provider = Arc::new(default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.to_string()))?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(cert.clone(), key)
            .map_err(|error| match error {
                TlsError::InconsistentKeys(_) => bad("key does not match cert".to_owned()),
                other => {
                    bad(format!("cert and key cannot be used, perhaps too weak or of an old form ({other}): {WEAK}"))
                }
            })?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        let name = ServerName::try_from(host.to_owned());
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: name.map_err(|_| Error::Configuration("devo url: not a host name".to_owned()))?,
            cert,
            verifier: verifier.map_err(|error| bad(format!("chain: {error}")))?,
        })
    }

    /// Looks at our own certificate before the server does, whose words would say less.
    pub fn check(&self) -> Result<(), String> {
        let (first, others) = self.cert.split_first().ok_or("devo secret: cert holds no certificate")?;
        let Err(error) = self.verify_at(first, others, Duration::ZERO) else { return Ok(()) };
        let text = match &error {
            TlsError::InvalidCertificate(problem) => match problem {
                CertificateError::ExpiredContext { not_after, .. } => {
                    format!("has expired on {}: put a new one there", date(not_after))
                }
                CertificateError::NotValidYetContext { not_before, .. } => {
                    format!("is not valid before {}: put a valid one there", date(not_before))
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "was not issued by the CA in chain: take chain, cert and key from one download".to_owned()
                }
                // The server may take what this library would not.
                _ => {
                    tracing::warn!(%error, "devo secret: cert looks unusual");
                    return Ok(());
                }
            },
            _ => error.to_string(),
        };
        Err(format!("devo secret: cert {text}"))
    }

    /// That our own certificate ends soon, while it still holds.
    pub fn warning(&self) -> Option<String> {
        let (first, others) = self.cert.split_first()?;
        self.verify_at(first, others, Duration::ZERO).ok()?;
        match self.verify_at(first, others, SOON) {
            Err(TlsError::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                let end = date(&not_after);
                Some(format!("devo secret: cert, or what it was issued by, ends on {end}: put a new one there before"))
            }
            _ => None,
        }
    }

    fn verify_at(
        &self,
        cert: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        ahead: Duration,
    ) -> Result<ClientCertVerified, TlsError> {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + ahead);
        self.verifier.verify_client_cert(cert, others, time)
    }

    pub async fn connect(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), socket).await
    }
}

/// Why one side does not take the other, where that is what an error says.
#[expect(deprecated, reason = "the TLS library still returns the variants that it will take away")]
pub(crate) fn refusal(error: &TlsError) -> Option<String> {
    use AlertDescription as Alert;
    let text = match error {
        TlsError::InvalidCertificate(problem) => match problem {
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the server's certificate has expired on {}", date(not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("the server's certificate is not valid before {}", date(not_before))
            }
            CertificateError::UnknownIssuer => {
                "the server's certificate is not from the CA in the Devo secret's chain: check chain and host"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the server's certificate is for another host ({problem}): check the Devo URL")
            }
            CertificateError::BadSignature => format!(
                "the server's certificate is not from the CA in the Devo secret's chain, or its keys are weaker than 2048 bits RSA: \
                 check chain and host; if they are right, {WEAK}"
            ),
            CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                format!("the server's certificate is signed in a way too weak (MD5 or SHA-1): {WEAK}")
            }
            CertificateError::Other(other) => old_form(other),
            other => old_form(other),
        },
        TlsError::AlertReceived(
            Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired,
        ) => format!("the server does not take the Devo secret's cert ({error}): check that it is of this Devo region"),
        TlsError::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity)
        | TlsError::PeerIncompatible(_) => {
            format!(
                "the server offers nothing that we take, TLS 1.2 and strong ciphers at least, or not our cert ({error})"
            )
        }
        _ => return None,
    };
    Some(text)
}

fn old_form(problem: &dyn std::fmt::Display) -> String {
    format!("the server's certificate is refused, perhaps an old form ({problem}): {WEAK}")
}

fn certificates(name: &str, text: &SecretString) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem(text).expose_secret().as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        Error::Configuration(format!("devo secret: {name} holds no certificate in PEM form{}", hint(text)))
    })
}

/// PEM as people paste it, as it should be: line ends may have become blanks or the two characters `\\n`, lines may be indented or
/// glued together.
fn pem(text: &SecretString) -> SecretString {
    let (mut rest, mut whole) = (text.expose_secret(), String::new());
    while let Some((label, body, behind)) = block(rest) {
        let body: String = body.replace("\\n", "").replace("\\r", "").split_whitespace().collect();
        whole += &format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        rest = behind;
    }
    whole.into()
}

/// The first block of a PEM text: its label, its body, and what is behind it.
fn block(text: &str) -> Option<(&str, &str, &str)> {
    let (_, text) = text.split_once("-----BEGIN ")?;
    let (label, text) = text.split_once("-----")?;
    let (body, text) = text.split_once("-----END ")?;
    let (_, behind) = text.split_once("-----")?;
    Some((label, body, behind))
}

/// What may be wrong with a text that is no PEM.
fn hint(text: &SecretString) -> &'static str {
    match text.expose_secret() {
        text if !text.contains("-----BEGIN ") => ": its line -----BEGIN ...----- is missing",
        text if !text.contains("-----END ") => ": it is cut, its line -----END ...----- is missing",
        _ => ": it is damaged, copy it again",
    }
}

fn date(time: &UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, 0).map(|time| time.format("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::OtherError;

    use super::*;

    #[test]
    fn weak_certificates_get_words_that_help() {
        let algorithm = CertificateError::UnsupportedSignatureAlgorithmContext {
            // sha1WithRSAEncryption
            signature_algorithm_id: vec![0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
            supported_algorithms: Vec::new(),
        };
        let old = CertificateError::Other(OtherError(Arc::new(io::Error::other("UnsupportedCertVersion"))));
        for (problem, expected) in [
            (algorithm, "is signed in a way too weak (MD5 or SHA-1): ask Devo"),
            (CertificateError::BadSignature, "or its keys are weaker than 2048 bits RSA"),
            (old, "is refused, perhaps an old form (UnsupportedCertVersion): ask Devo"),
        ] {
            let text = refusal(&TlsError::InvalidCertificate(problem)).unwrap();
            assert!(text.contains(expected) && text.contains("through a relay") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn only_refusals_are_refusals() {
        assert!(refusal(&TlsError::AlertReceived(AlertDescription::UnknownCA)).unwrap().contains("UnknownC"));
        for passing in [TlsError::AlertReceived(AlertDescription::InternalError), TlsError::DecryptError] {
            assert_eq!(refusal(&passing), None);
        }
    }
}
