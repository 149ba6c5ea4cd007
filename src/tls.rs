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

/// A certificate chain and its key, as files in PEM.
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
    /// The file.
    pub path: PathBuf,
    /// Why.
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
    /// If they hold no certificate and key that belong together.
    pub fn read(files: &Files) -> Result<Self, Unusable> {
        Ok(Self { current: ArcSwap::from_pointee(certified(files)?), files: files.clone() })
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// If they cannot be used; the certificate of before stays in force.
    pub fn read_again(&self) -> Result<(), Unusable> {
        self.current.store(Arc::new(certified(&self.files)?));
        Ok(())
    }

    /// The files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// How a listener uses it: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// If pingora does not want it so.
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

/// How TLS is spoken to a backend.
#[derive(Clone, Default)]
pub struct Outgoing {
    /// The name that is asked for and checked, if it is not the address's own.
    pub server_name: Option<String>,
    /// Whether the backend's certificate is checked. Without that, anybody on the way can be the backend.
    pub verify: bool,
    /// Whose signature is trusted, in place of the system's list.
    pub ca: Option<Arc<[WrappedX509]>>,
    /// What we show of ourselves.
    pub client: Option<Arc<CertKey>>,
    /// The files that all this came from, to tell one configuration from another.
    from: (Option<PathBuf>, Option<Files>),
}

impl Outgoing {
    /// Reads what `ca` and `client` name.
    ///
    /// # Errors
    /// If a file cannot be used.
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
