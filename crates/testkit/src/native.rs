//! A native client: it speaks `stack.v1.capnp`, and shows what it is told as the frames of JSON that say the same.

use std::fmt;
use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use serde_json::Value;
use stack_proto::Request;
use stack_proto::capnp::{CAPNP_SUBPROTOCOL, client_frame, server_frame_json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::{Closed, PATIENCE};

/// An open socket of a native client.
pub struct Native {
    stream: WebSocketStream<TcpStream>,
    next_id: u64,
    /// What the server chose.
    pub subprotocol: Option<String>,
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").finish_non_exhaustive()
    }
}

impl Native {
    /// Opens a socket that speaks `stack.v1.capnp`, with this token if there is one.
    pub async fn open(addr: SocketAddr, token: Option<&str>) -> Self {
        let native = Self::offering(addr, token, &[CAPNP_SUBPROTOCOL]).await;
        let native =
            native.unwrap_or_else(|status| panic!("the upgrade was refused with {status}"));
        assert_eq!(native.subprotocol.as_deref(), Some(CAPNP_SUBPROTOCOL));
        native
    }

    /// Opens a socket with these sub-protocols offered, or gives the status the upgrade was refused with.
    ///
    /// # Errors
    /// With the HTTP status of the refusal.
    pub async fn offering(
        addr: SocketAddr,
        token: Option<&str>,
        offered: &[&str],
    ) -> Result<Self, u16> {
        let stream = TcpStream::connect(addr).await.expect("the gateway accepts");
        let mut request = format!("ws://{addr}/ws")
            .into_client_request()
            .expect("a request");
        let headers = request.headers_mut();
        let offered = offered.join(", ").parse().expect("a header's value");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered);
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().expect("a header's value");
            headers.insert(http::header::AUTHORIZATION, bearer);
        }
        // Pages are longer than the library's own bounds.
        let config = WebSocketConfig::default()
            .max_frame_size(None)
            .max_message_size(None);
        let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        match timeout(PATIENCE, opening).await {
            Ok(Ok((stream, response))) => {
                let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
                let chosen = chosen.and_then(|name| name.to_str().ok());
                Ok(Self {
                    stream,
                    next_id: 1,
                    subprotocol: chosen.map(str::to_owned),
                })
            }
            Ok(Err(tungstenite::Error::Http(response))) => Err(response.status().as_u16()),
            Ok(Err(error)) => panic!("the upgrade failed: {error}"),
            Err(_) => panic!("the upgrade was not answered"),
        }
    }

    /// Sends a message as it is.
    pub async fn send(&mut self, message: Message) {
        self.stream
            .send(message)
            .await
            .expect("the socket takes a frame");
    }

    /// Sends bytes as one binary message.
    pub async fn send_bytes(&mut self, bytes: impl Into<tungstenite::Bytes>) {
        self.send(Message::Binary(bytes.into())).await;
    }

    /// Sends text.
    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends a request without an id.
    pub async fn tell(&mut self, request: &Request) {
        self.send_bytes(client_frame(None, request)).await;
    }

    /// Sends a request, and gives the id its answer will carry.
    pub async fn begin(&mut self, request: &Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_bytes(client_frame(Some(id), request)).await;
        id
    }

    /// Sends a request, and gives its answer, `ok` or `error`; frames that come before it are lost.
    pub async fn ask(&mut self, request: &Request) -> Value {
        let id = self.begin(request).await;
        loop {
            let frame = self.frame().await;
            if frame["id"] == id {
                return frame;
            }
        }
    }

    /// Sends a request, and gives the payload of its `ok`.
    pub async fn ok(&mut self, request: &Request) -> Value {
        let answer = self.ask(request).await;
        assert_eq!(answer["type"], "ok", "{answer}");
        answer["payload"].clone()
    }

    /// Sends a request, and gives the payload of its `error`.
    pub async fn refused(&mut self, request: &Request) -> Value {
        let answer = self.ask(request).await;
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
        let json = self
            .json()
            .await
            .unwrap_or_else(|closed| panic!("the socket is closed: {closed:?}"));
        serde_json::from_str(&json).expect("JSON")
    }

    /// The next frame, as the text that says the same.
    ///
    /// # Errors
    /// With how the socket ended, if it did.
    pub async fn json(&mut self) -> Result<String, Closed> {
        loop {
            let message = timeout(PATIENCE, self.stream.next())
                .await
                .expect("a frame in time");
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let json = server_frame_json(&bytes).expect("a server's frame");
                    return Ok(String::from_utf8(json).expect("JSON"));
                }
                Some(Ok(Message::Text(text))) => panic!("text on a binary socket: {text}"),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Closed::Code(frame.code.into()));
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err(Closed::Abruptly),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Reads on until the socket ends, and tells how.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.json().await {
                return closed;
            }
        }
    }
}
