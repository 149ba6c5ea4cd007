//! `sungrazer health`: asks the admin listener for its health, for health checks in images without another program.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{HealthArgs, check, say, usage};
use crate::config::Overrides;

/// The timeout of each step.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of bytes read of a response.
const MAX_BODY: u64 = 4096;

/// Exits with 0 if the listener reports health, with 1 if it does not.
pub(super) fn health(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    // Only the address of the admin listener matters here, so a missing application is not an error.
    let overrides =
        Overrides { upstream: Some("http://localhost".to_owned()), listen: None, admin: args.admin.clone() };
    let config = match check::load(args.file.path().as_deref(), &overrides) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let Some(admin) = config.server.admin else {
        return Ok(usage("the admin listener is off: there is nobody to ask"));
    };
    if admin.listen.port() == 0 {
        return Ok(usage("the admin listener takes any free port: say with --admin where it is"));
    }
    let path = if args.live { "/healthz" } else { "/readyz" };
    let address = reachable(admin.listen);
    let (status, text) = ask(address, path).with_context(|| format!("http://{address}{path}"))?;
    if status != 200 {
        bail!("http://{address}{path} answers {status}: {text}");
    }
    say(&text);
    Ok(ExitCode::SUCCESS)
}

/// Returns the address at which this machine reaches the listener; a wildcard address is replaced by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_TIMEOUT)?;
    stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
    stream.set_write_timeout(Some(HEALTH_TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_BODY).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let no_answer = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
    Ok((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        let at = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(at("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(at("[::]:9090"), "[::1]:9090");
        assert_eq!(at("10.0.0.1:9090"), "10.0.0.1:9090");
    }
}
