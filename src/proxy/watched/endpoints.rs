//! The endpoints below our own prefix: the multiplexed stream, the WebSocket, the forever frame, and those for
//! `doctor`.

use std::sync::Arc;

use http::header::{
    ALLOW, CONTENT_SECURITY_POLICY, EXPECT, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, X_FRAME_OPTIONS,
};
use http::{HeaderName, Method, StatusCode};

use crate::clock;
use crate::deliver::{
    Downstream, FormatRef, Iframe, LocalResponse, MULTIPLEX, MULTIPLEX_EXACT, MULTIPLEX_WITH_HEADERS, Options,
    SUBPROTOCOL, Session, Socket, SubscribeError, SubscribeRequest, SubscriptionService, UrlSubscriptions, accept_key,
};
use crate::model::{EndReason, fields};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::{RequestView, is_own_origin};
use crate::proxy::watched::client_context::ClientContext;
use crate::proxy::watched::dispatch::Dispatch;
use crate::proxy::watched::follow_list;
use crate::resource::TaskNotify;
use crate::route::Table;

/// A WebSocket that is about to be opened.
pub(in crate::proxy) struct WebSocketOpening {
    /// The headers of the 101.
    pub(in crate::proxy) headers: HeaderMap,
    /// The socket to serve afterwards.
    pub(in crate::proxy) socket: Socket,
}

/// The maximum size of a posted subscription list.
const MAX_BODY: u64 = 256 * 1024;

const UPGRADE_REQUIRED: &str = "This is a WebSocket endpoint: upgrade with the subprotocol sungrazer.v1.";

/// How a client with several subscriptions is held.
#[derive(Default)]
struct StreamOptions {
    /// Additional headers of the response.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether URLs that cannot be subscribed to are reported as ended, while the others are still served.
    lenient: bool,
    /// Whether the stream ends after the first update.
    once: bool,
}

impl Gateway {
    /// Answers a request below our prefix, with `rest` as the rest of its path.
    pub(in crate::proxy) async fn endpoint(
        self: &Arc<Self>,
        rest: &str,
        request: &RequestView<'_>,
        wire: &mut Downstream,
    ) -> Dispatch {
        if !matches!(rest, "/stream" | "/ws" | "/iframe" | "/shim.js" | "/doctor") {
            return Dispatch::text(StatusCode::NOT_FOUND, "There is nothing here.");
        }
        if !is_own_origin(request) {
            return Dispatch::text(StatusCode::FORBIDDEN, "Pages of other sites may not follow this one.");
        }
        match (rest, &request.head.method) {
            ("/stream", &Method::GET) => self.stream(request),
            ("/stream", &Method::POST) => self.posted_stream(request, wire).await,
            ("/iframe", &Method::GET) => self.iframe(request),
            ("/ws", &Method::GET) => self.websocket(request, wire),
            ("/shim.js", &Method::GET) => Dispatch::Answer(self.script(request)),
            ("/doctor", _) => Box::pin(self.doctor(request, wire)).await,
            ("/stream", _) => not_allowed("GET, POST"),
            _ => not_allowed("GET"),
        }
    }

    /// Handles `stream?url=/a&url=/b`, with one `since=` per `url`, `delta=` and `tick=`.
    fn stream(self: &Arc<Self>, request: &RequestView<'_>) -> Dispatch {
        match follow_list::from_query(request) {
            Ok(asked) => self.hold_many(request, &asked, FormatRef::Static(&MULTIPLEX), StreamOptions::default()),
            Err(error) => error.into(),
        }
    }

    async fn posted_stream(self: &Arc<Self>, request: &RequestView<'_>, wire: &mut Downstream) -> Dispatch {
        let length = request.content_length();
        let Some(length) = length.filter(|length| *length <= MAX_BODY) else {
            let (status, text) = match length {
                Some(_) => (StatusCode::PAYLOAD_TOO_LARGE, "The list of what to follow is too long."),
                None => {
                    (StatusCode::LENGTH_REQUIRED, "Say with Content-Length how long the list of what to follow is.")
                }
            };
            return Dispatch::text(status, text);
        };
        let patience = self.options().head_timeout;
        if fields::has_token(request.headers(), &EXPECT, "100-continue") && wire.send_continue(patience).await.is_err()
        {
            return Dispatch::ClientGone;
        }
        let Ok(body) = wire.read_body(length, patience).await else { return Dispatch::ClientGone };
        match follow_list::from_body(&body) {
            Ok((asked, options)) => {
                let form = match (options.exact, options.headers) {
                    (true, _) => &MULTIPLEX_EXACT,
                    (false, true) => &MULTIPLEX_WITH_HEADERS,
                    (false, false) => &MULTIPLEX,
                };
                let manner = StreamOptions { lenient: options.exact, once: options.once, ..StreamOptions::default() };
                self.hold_many(request, &asked, FormatRef::Static(form), manner)
            }
            Err(error) => error.into(),
        }
    }

    fn iframe(self: &Arc<Self>, request: &RequestView<'_>) -> Dispatch {
        // The callback is in the parent page. As a top-level page it could only reach its opener.
        if request.headers().get("sec-fetch-dest").is_some_and(|dest| dest == "document") {
            return Dispatch::text(StatusCode::FORBIDDEN, "This is for a frame in a page of this site.");
        }
        let callback = request.target.parameter("callback").unwrap_or_default();
        let Some(frame) = Iframe::new(&callback) else {
            let text = "callback is the name of a function, such as parent.update.";
            return Dispatch::text(StatusCode::BAD_REQUEST, text);
        };
        let policy = "default-src 'none'; script-src 'unsafe-inline'; frame-ancestors 'self'";
        let headers = [
            (CONTENT_SECURITY_POLICY, policy),
            (HeaderName::from_static("x-content-type-options"), "nosniff"),
            // Old browsers that need frames do not support policies either.
            (X_FRAME_OPTIONS, "SAMEORIGIN"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value))).to_vec();
        match follow_list::from_query(request) {
            Ok(asked) => {
                let manner = StreamOptions { headers, ..StreamOptions::default() };
                self.hold_many(request, &asked, FormatRef::Boxed(Box::new(frame)), manner)
            }
            Err(error) => error.into(),
        }
    }

    /// Holds a client with these subscriptions. If one of them fails, the whole request fails, unless the client is
    /// held leniently.
    fn hold_many(
        self: &Arc<Self>,
        request: &RequestView<'_>,
        asked: &[SubscribeRequest],
        delivery: FormatRef,
        manner: StreamOptions,
    ) -> Dispatch {
        let notify = Arc::<TaskNotify>::default();
        let place = match self.enter(request, &notify, false) {
            Ok(place) => place,
            Err(overload) => return self.reject_overloaded("streams", &overload.to_string()),
        };
        // Only the browser script asks to be held leniently.
        let desk = Arc::new(ClientContext::new(self, request).of_script(manner.lenient));
        let mut followers =
            UrlSubscriptions::default().of_client(desk.fence.listen(Arc::clone(&notify), manner.lenient));
        for asked in asked {
            match desk.subscribe(asked, delivery.name(), &notify) {
                Ok(found) => followers.add(found),
                Err(SubscribeError::Invalid(_)) if manner.lenient => followers.refuse(asked, EndReason::Gone),
                Err(SubscribeError::Invalid(text)) => {
                    return Dispatch::text(StatusCode::BAD_REQUEST, &format!("{:?} {text}.", asked.url));
                }
                Err(SubscribeError::Unavailable(reason)) => followers.refuse(asked, reason),
            }
        }
        let options = self.options_for(|routes| {
            let paths = asked.iter().map(|asked| asked.url.split('?').next().unwrap_or_default());
            paths.filter_map(|path| routes.find_path(path)).map(|route| route.deliver).collect()
        });
        Dispatch::HoldStream(Box::new(Session {
            followers,
            desk: Some(desk),
            notify,
            place,
            delivery,
            options,
            gzip: request.accepts_gzip(),
            headers: manner.headers,
            once: manner.once,
            seed: clock::seed(),
        }))
    }

    /// Returns options that satisfy all routes that `deliver` selects.
    fn options_for(&self, deliver: impl FnOnce(&Table) -> Vec<Options>) -> Options {
        let common = Options { write_timeout: self.options().write_timeout, ..Options::default() };
        deliver(&self.routes.load()).into_iter().reduce(Options::stricter).unwrap_or(common)
    }

    fn websocket(self: &Arc<Self>, request: &RequestView<'_>, wire: &Downstream) -> Dispatch {
        let headers = request.headers();
        let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let offered = fields::has_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        let (Some(key), true, true) =
            (headers.get(SEC_WEBSOCKET_KEY), request.is_websocket(), matches!(wire, Downstream::H1(_)))
        else {
            let mut answer = LocalResponse::text(StatusCode::UPGRADE_REQUIRED, UPGRADE_REQUIRED);
            answer.headers.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
            return Dispatch::Answer(answer);
        };
        if !version || !offered {
            let mut answer = LocalResponse::text(StatusCode::BAD_REQUEST, UPGRADE_REQUIRED);
            answer.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return Dispatch::Answer(answer);
        }
        let Ok(accept) = HeaderValue::from_str(&accept_key(key.as_bytes())) else {
            return Dispatch::text(StatusCode::BAD_REQUEST, UPGRADE_REQUIRED);
        };
        let notify = Arc::<TaskNotify>::default();
        let place = match self.enter(request, &notify, false) {
            Ok(place) => place,
            Err(overload) => return self.reject_overloaded("streams", &overload.to_string()),
        };
        let mut answer = HeaderMap::new();
        answer.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
        answer.insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.insert(http::header::SEC_WEBSOCKET_ACCEPT, accept);
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let visitor = Arc::new(ClientContext::new(self, request));
        let socket = Socket {
            writes: Arc::clone(&visitor.fence),
            desk: Arc::clone(&visitor) as Arc<dyn SubscriptionService>,
            replier: visitor,
            notify,
            place,
            // The URLs that it will subscribe to are not known yet.
            options: self.options_for(|routes| {
                routes.iter().filter(|route| route.websocket).map(|route| route.deliver).collect()
            }),
            seed: clock::seed(),
        };
        Dispatch::Socket(Box::new(WebSocketOpening { headers: answer, socket }))
    }
}

pub(in crate::proxy) fn not_allowed(allowed: &'static str) -> Dispatch {
    let mut answer = LocalResponse::text(StatusCode::METHOD_NOT_ALLOWED, &format!("Allowed here: {allowed}."));
    answer.headers.insert(ALLOW, HeaderValue::from_static(allowed));
    Dispatch::Answer(answer)
}
