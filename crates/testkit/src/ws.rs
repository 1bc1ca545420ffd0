//! A WebSocket client that sees every frame as it came.

use std::fmt;
use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::PATIENCE;

const SUBPROTOCOL: &str = "stack.v1.json";

/// What a socket is opened over: TCP, or TLS over it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<Box<dyn Stream>>,
    next_id: u64,
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// With this code.
    Code(u16),
    /// Without a close frame.
    Abruptly,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a socket with these headers.
    pub async fn open(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open(addr, path, headers)
            .await
            .unwrap_or_else(|status| panic!("the upgrade was refused with {status}"))
    }

    /// Opens a socket, or gives the status the upgrade was refused with.
    ///
    /// # Errors
    /// With the HTTP status of the refusal.
    pub async fn try_open(
        addr: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        let stream = TcpStream::connect(addr).await.expect("the gateway accepts");
        Self::over(stream, addr, path, headers).await
    }

    /// Opens a socket over a stream of the caller's, or gives the status the upgrade was refused with.
    ///
    /// # Errors
    /// With the HTTP status of the refusal.
    pub async fn over(
        stream: impl Stream + 'static,
        addr: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        let stream: Box<dyn Stream> = Box::new(stream);
        let mut request = format!("ws://{addr}{path}")
            .into_client_request()
            .expect("a request");
        let all = headers
            .iter()
            .copied()
            .chain([("sec-websocket-protocol", SUBPROTOCOL)]);
        for (name, value) in all {
            let name = http::HeaderName::try_from(name).expect("a header's name");
            request
                .headers_mut()
                .insert(name, value.parse().expect("a header's value"));
        }
        match timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await {
            Ok(Ok((stream, _))) => Ok(Self { stream, next_id: 1 }),
            Ok(Err(tungstenite::Error::Http(response))) => Err(response.status().as_u16()),
            Ok(Err(error)) => panic!("the upgrade failed: {error}"),
            Err(_) => panic!("the upgrade was not answered"),
        }
    }

    /// A socket over a stream that is one already, as one of HTTP/2 is.
    pub async fn upgraded(stream: impl Stream + 'static) -> Self {
        let stream: Box<dyn Stream> = Box::new(stream);
        let stream = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        Self { stream, next_id: 1 }
    }

    /// Sends text as it is.
    pub async fn send_text(&mut self, text: &str) {
        self.stream
            .send(Message::text(text))
            .await
            .expect("the socket takes a frame");
    }

    /// Sends a frame without an id.
    pub async fn tell(&mut self, kind: &str, payload: Value) {
        self.send_text(&json!({ "type": kind, "payload": payload }).to_string())
            .await;
    }

    /// Sends a request, and gives its answer, `ok` or `error`; frames that come before it are lost.
    pub async fn ask(&mut self, kind: &str, payload: Value) -> Value {
        let id = self.begin(kind, payload).await;
        loop {
            let frame = self.frame().await;
            if frame["id"] == id {
                return frame;
            }
        }
    }

    /// Sends a request, and gives the id its answer will carry.
    pub async fn begin(&mut self, kind: &str, payload: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_text(&json!({ "type": kind, "id": id, "payload": payload }).to_string())
            .await;
        id
    }

    /// Sends a request, and gives the payload of its `ok`.
    pub async fn ok(&mut self, kind: &str, payload: Value) -> Value {
        let answer = self.ask(kind, payload).await;
        assert_eq!(answer["type"], "ok", "{answer}");
        answer["payload"].clone()
    }

    /// Sends a request, and gives the payload of its `error`.
    pub async fn refused(&mut self, kind: &str, payload: Value) -> Value {
        let answer = self.ask(kind, payload).await;
        assert_eq!(answer["type"], "error", "{answer}");
        answer["payload"].clone()
    }

    /// The next frame of this type; others are lost.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] == kind {
                return frame["payload"].clone();
            }
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Value {
        let text = self
            .text()
            .await
            .unwrap_or_else(|closed| panic!("the socket is closed: {closed:?}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    }

    /// The next text as it came.
    ///
    /// # Errors
    /// With how the socket ended, if it did.
    pub async fn text(&mut self) -> Result<String, Closed> {
        loop {
            let message = timeout(PATIENCE, self.stream.next())
                .await
                .expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Closed::Code(frame.code.into()));
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err(Closed::Abruptly),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Closes the socket with this code, and waits for the answer.
    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        let closed = self.stream.close(Some(frame)).await;
        closed.expect("the socket takes a close frame");
        while let Ok(Some(Ok(_))) = timeout(PATIENCE, self.stream.next()).await {}
    }

    /// Reads on until the socket ends, and tells how.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.text().await {
                return closed;
            }
        }
    }
}
