//! Clients that hold a stream open, thousands at a time, on one thread.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Request};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::{Head, Socket, Tls, connect, connect_tcp, get, read};
use crate::document::Scanner;
use crate::sightings::Sightings;

/// Where streams are opened, and how.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// Client `i` takes the path `i` of these, and from the first again behind the last.
    pub paths: Vec<String>,
    /// More lines for the head of the request.
    pub headers: String,
    pub form: Form,
    /// How many are being opened at a time.
    pub opening: usize,
}

#[derive(Clone)]
pub enum Form {
    H1,
    Tls(Tls),
    /// So many streams on one connection.
    H2(usize),
}

impl Target {
    pub fn new(address: SocketAddr, path: &str) -> Self {
        Self { address, paths: vec![path.to_owned()], headers: String::new(), form: Form::H1, opening: OPENING }
    }
}

/// Streams that are open until this is dropped.
pub struct Streams {
    pub sightings: Rc<Sightings>,
    pub count: usize,
    tasks: JoinSet<()>,
}

/// How many are being opened at a time, where nothing else is said.
const OPENING: usize = 256;

/// How long one may take to open.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a stream that is refused is asked for, and after which pause it is asked for again: as an `EventSource` does,
/// though sooner.
const TRIES: usize = 5;
const AGAIN: Duration = Duration::from_millis(200);

/// What is known of a stream that is open.
struct Client {
    sightings: Rc<Sightings>,
    scanner: Scanner,
    known: u32,
}

impl Client {
    fn take(&mut self, bytes: &[u8]) {
        self.sightings.got(bytes.len());
        self.scanner.scan(bytes, |n| self.sightings.saw(&mut self.known, n));
    }
}

impl Streams {
    /// Opens `count` streams.
    pub async fn open(target: &Target, count: usize) -> Self {
        Self::open_many(target, count, target.opening).await
    }

    /// Opens `count` streams, `opening` at a time.
    pub async fn open_many(target: &Target, count: usize, opening: usize) -> Self {
        let sightings = Rc::new(Sightings::default());
        let mut tasks = JoinSet::new();
        let places = Rc::new(Semaphore::new(opening));
        let opened = Rc::new(Semaphore::new(0));
        let step = if let Form::H2(each) = target.form { each } else { 1 };
        for first in (0..count).step_by(step) {
            let place = Rc::clone(&places);
            let (opened, sightings, target) = (Rc::clone(&opened), Rc::clone(&sightings), target.clone());
            let each = step.min(count - first);
            tasks.spawn_local(async move {
                let place = place.acquire().await;
                let mut tries = 1;
                let held = loop {
                    let held = timeout(PATIENCE, hold(&target, first, each, &sightings)).await;
                    if tries == TRIES || !matches!(held, Ok(Err(_))) {
                        break held;
                    }
                    tries += 1;
                    sleep(AGAIN).await;
                };
                drop(place);
                opened.add_permits(each);
                match held {
                    Ok(Ok(held)) => held.await,
                    Ok(Err(error)) => sightings.failed(format!("stream {first}: {error}")),
                    Err(_) => sightings.failed(format!("stream {first} does not open")),
                }
                sightings.end(each);
            });
        }
        let _ = opened.acquire_many(count as u32).await;
        let streams = Self { sightings, count, tasks };
        streams.check();
        streams
    }

    /// Says so if streams failed or ended.
    pub fn check(&self) {
        let ended = self.sightings.ended();
        if ended > 0 {
            eprintln!("!! {ended} of {} streams ended: {:?}", self.count, self.sightings.errors.borrow());
        }
    }

    /// Closes them all.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

type Holding = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Opens the streams of one connection; what is returned follows them.
async fn hold(target: &Target, first: usize, each: usize, sightings: &Rc<Sightings>) -> io::Result<Holding> {
    let client = || Client { sightings: Rc::clone(sightings), scanner: Scanner::default(), known: 0 };
    let path = |number: usize| target.paths[number % target.paths.len()].clone();
    let tls = match &target.form {
        Form::H2(_) => {
            let paths = (first..first + each).map(path).collect();
            return hold_h2(target, first, paths, client).await;
        }
        Form::Tls(tls) => Some(tls),
        Form::H1 => None,
    };
    let mut socket = connect(target.address, first, tls).await?;
    let request = get(&path(first), &format!("Accept: text/event-stream\r\n{}", target.headers));
    socket.write_all(request.as_bytes()).await?;
    let mut client = client();
    let mut early = Vec::new();
    loop {
        read(&mut socket, |bytes| early.extend_from_slice(bytes)).await?;
        match Head::parse(&early)? {
            Some(head) if head.status == 200 => {
                client.take(&early[head.length..]);
                break;
            }
            Some(head) => return Err(io::Error::other(format!("status {}", head.status))),
            None => {}
        }
    }
    drop(early);
    Ok(Box::pin(follow(socket, client)))
}

async fn follow(mut socket: Socket, mut client: Client) {
    loop {
        if let Err(error) = read(&mut socket, |bytes| client.take(bytes)).await {
            return client.sightings.failed(error.to_string());
        }
    }
}

async fn hold_h2(
    target: &Target,
    first: usize,
    paths: Vec<String>,
    client: impl Fn() -> Client,
) -> io::Result<Holding> {
    let stream = connect_tcp(target.address, first).await?;
    let (mut requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move { drop(connection.await) });
    for path in paths {
        let mut request = Request::get(format!("http://localhost{path}")).body(()).map_err(io::Error::other)?;
        request.headers_mut().insert("accept", HeaderValue::from_static("text/event-stream"));
        requests = requests.ready().await.map_err(io::Error::other)?;
        let (response, _) = requests.send_request(request, true).map_err(io::Error::other)?;
        let response = response.await.map_err(io::Error::other)?;
        if response.status() != 200 {
            return Err(io::Error::other(format!("status {}", response.status())));
        }
        let (mut body, mut client) = (response.into_body(), client());
        tasks.spawn_local(async move {
            while let Some(Ok(bytes)) = body.data().await {
                let _ = body.flow_control().release_capacity(bytes.len());
                client.take(&bytes);
            }
        });
    }
    Ok(Box::pin(async move {
        let _requests = requests;
        tasks.join_next().await;
    }))
}
