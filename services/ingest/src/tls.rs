//! TLS at the door for gRPC, by rustls and ring.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What HTTP/2 is called where protocols are agreed on.
const HTTP2: &[u8] = b"h2";

/// A certificate and its key, ready to be shown.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// A certificate or a key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or has no such thing in it.
    #[error("{path}: no {what} in PEM could be read from it: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong.
        why: pem::Error,
    },
    /// The certificate file has nothing in it.
    #[error("{0}: there is no certificate in it; the chain is needed in PEM, the server's own first")]
    NoCertificate(PathBuf),
    /// Certificate and key do not fit each other, or are of a kind that is not supported.
    #[error("certificate and key can't be used together: {0}")]
    Pair(#[from] rustls::Error),
}

impl Tls {
    /// Reads the certificate chain and the private key from files in PEM.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let unreadable = |path: &Path, what: &'static str| {
            let path = path.to_path_buf();
            move |why| TlsError::File { path, what, why }
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(unreadable(certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(certificate.to_path_buf()));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key, "private key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.0.accept(stream).await
    }
}

/// Keys never reach a log.
impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}
