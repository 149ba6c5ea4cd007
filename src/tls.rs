//! Certificates and keys: read from PEM files, checked to belong together, and read again when the files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::TlsSettings;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use crate::files;

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain, the leaf first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {path}: {why}")]
pub struct Unusable {
    /// The path of the file.
    pub path: PathBuf,
    /// The cause.
    pub why: String,
}

fn unusable(path: &Path, why: &impl fmt::Display) -> Unusable {
    Unusable { path: path.to_owned(), why: why.to_string() }
}

/// The certificate of a listener.
pub struct Certificate {
    files: Files,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Reads `files`.
    ///
    /// # Errors
    /// Returns an error if the files do not contain a matching certificate and key.
    pub fn read(files: &Files) -> Result<Self, Unusable> {
        Ok(Self { current: ArcSwap::from_pointee(certified(files)?), files: files.clone() })
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// Returns an error if the files cannot be used; the previous certificate stays in force.
    pub fn read_again(&self) -> Result<(), Unusable> {
        self.current.store(Arc::new(certified(&self.files)?));
        Ok(())
    }

    /// Returns the files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Returns the TLS settings of a listener: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// Returns an error if pingora rejects the settings.
    pub fn settings(self: &Arc<Self>) -> Result<TlsSettings, Unusable> {
        let mut settings = TlsSettings::intermediate("", "").map_err(|error| unusable(&self.files.cert, &error))?;
        settings.set_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        settings.enable_h2();
        Ok(settings)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

fn certified(files: &Files) -> Result<CertifiedKey, Unusable> {
    let key = any_supported_type(&private_key(&files.key)?).map_err(|error| unusable(&files.key, &error))?;
    let certified = CertifiedKey::new(chain(&files.cert)?, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => {
            Err(unusable(&files.key, &format!("it is not the key of the certificate in {}", files.cert.display())))
        }
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let text = files::secret(path).map_err(|error| unusable(path, &error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| unusable(path, &error))?;
    if chain.is_empty() { Err(unusable(path, &"it holds no certificate in PEM")) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let text = files::secret(path).map_err(|error| unusable(path, &error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| unusable(path, &error))
}

/// The TLS settings for connections to a backend.
#[derive(Clone, Default)]
pub struct Outgoing {
    /// The server name for SNI and certificate verification, if it differs from the address.
    pub server_name: Option<String>,
    /// Whether the backend's certificate is verified. If not, an attacker on the network can impersonate the backend.
    pub verify: bool,
    /// The trusted certificate authorities, in place of the system's list.
    pub ca: Option<Arc<[WrappedX509]>>,
    /// The client certificate.
    pub client: Option<Arc<CertKey>>,
    /// The files that the settings came from, for comparing two configurations.
    from: (Option<PathBuf>, Option<Files>),
}

impl Outgoing {
    /// Reads the files that `ca` and `client` name.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used.
    pub fn read(
        server_name: Option<String>,
        verify: bool,
        ca: Option<PathBuf>,
        client: Option<Files>,
    ) -> Result<Self, Unusable> {
        let authorities = ca.as_deref().map(authorities).transpose()?;
        let shown = client.as_ref().map(|files| {
            certified(files)?;
            let chain = chain(&files.cert)?.iter().map(|certificate| certificate.to_vec()).collect();
            Ok(Arc::new(CertKey::new(chain, private_key(&files.key)?.secret_der().to_vec())))
        });
        Ok(Self { server_name, verify, ca: authorities, client: shown.transpose()?, from: (ca, client) })
    }
}

fn authorities(path: &Path) -> Result<Arc<[WrappedX509]>, Unusable> {
    let chain = chain(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &chain {
        store.add(certificate.clone()).map_err(|error| unusable(path, &error))?;
    }
    Ok(chain.iter().map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509)).collect())
}

impl PartialEq for Outgoing {
    fn eq(&self, other: &Self) -> bool {
        self.server_name == other.server_name && self.verify == other.verify && self.from == other.from
    }
}

impl Eq for Outgoing {}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("server_name", &self.server_name)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}
