//! The errors of connections and requests to the application.
//!
//! Their texts include the cause, in the words of users. The causes are fields and not `source()`: a caller that prints the
//! chain of sources would print each cause twice.

use std::time::Duration;

use pingora::ErrorType;

use super::address::Address;
use super::decode::Undecoded;
use super::hint;
use crate::resource::Decline;

/// The reason why there is no connection to the application.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host name of the application has no address.
    #[error("cannot resolve {host}: {error}")]
    Resolve {
        /// The host name.
        host: String,
        /// The error of the resolver.
        error: std::io::Error,
    },
    /// The application does not accept a connection.
    #[error("{}", describe_connect(.address, .error))]
    Connect {
        /// The address of the application.
        address: Address,
        /// The error of the connector.
        error: pingora::BError,
    },
}

impl ConnectError {
    /// Creates the error of a failed attempt to connect to `address`.
    pub fn new(address: &Address, error: pingora::BError) -> Self {
        Self::Connect { address: address.clone(), error }
    }

    /// Returns whether the attempt timed out.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Resolve { .. } => false,
            Self::Connect { error, .. } => {
                matches!(error.etype, ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout)
            }
        }
    }
}

/// The reason why a request brought no complete response.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or the response is not HTTP.
    #[error("{}", summarize(.0))]
    Broken(pingora::BError),
    /// The body is too large, or cannot be decoded.
    #[error("{0}")]
    Declined(Decline),
    /// The body ends before its content coding does.
    #[error(transparent)]
    Undecoded(#[from] Undecoded),
    /// The response was not complete in time.
    #[error("no complete response within fetch_timeout ({})", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl From<pingora::BError> for ExchangeError {
    fn from(error: pingora::BError) -> Self {
        Self::Broken(error)
    }
}

impl ExchangeError {
    /// Returns whether another replica may answer the same request at once.
    pub(super) fn is_of_connection(&self) -> bool {
        !matches!(self, Self::Timeout(_))
    }
}

/// Describes a failed attempt to connect to `address` for users.
pub fn describe_connect(address: &Address, error: &pingora::Error) -> String {
    format!("cannot connect to {address}: {}", hint::explain(address, summarize(error)))
}

/// Describes `error` for users, without the bookkeeping of the library.
pub fn summarize(error: &pingora::Error) -> String {
    let what = match &error.etype {
        ErrorType::ConnectRefused => "nobody listens there",
        ErrorType::ConnectTimedout => "no answer in time",
        ErrorType::ConnectNoRoute => "there is no way to it",
        ErrorType::ConnectError => "no connection",
        ErrorType::TLSHandshakeFailure => "the TLS handshake failed",
        ErrorType::TLSHandshakeTimedout => "the TLS handshake took too long",
        ErrorType::ConnectionClosed => "it closed the connection without an answer",
        ErrorType::ReadError => "the connection broke before the answer",
        ErrorType::WriteError => "the connection broke before the request was sent",
        ErrorType::ReadTimedout => "no answer in time",
        ErrorType::InvalidHTTPHeader => "what it answers is not HTTP",
        other => other.as_str(),
    };
    // The library wraps its own errors in one another; the innermost is what happened.
    let mut inner = error;
    while let Some(next) = inner.cause.as_ref().and_then(|cause| cause.downcast_ref::<Box<pingora::Error>>()) {
        inner = next;
    }
    // For a failure on an established connection, pingora's cause is only the local address.
    let cause = inner.cause.as_ref().map(ToString::to_string).filter(|cause| !cause.starts_with("local address"));
    match (cause, &inner.context) {
        (Some(cause), _) => format!("{what} ({cause})"),
        (None, Some(context)) => format!("{what} ({})", context.as_str()),
        (None, None) => what.to_owned(),
    }
}
