//! What is left of a request's body when its answer is ready: a refusal often does not read it.
//!
//! HTTP/1 cannot skip it. hyper would close the connection without a word, and the next request of whoever reuses it
//! would be lost. So what has arrived is read and thrown away, and when that is not all of it the answer says that the
//! connection ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use super::body;

/// A small body that was sent along with its head is here by now, and this is only for the connection to hand it over.
const BRIEFLY: Duration = Duration::from_millis(20);

/// More than any body that a client sends before it would look for the answer.
const DISCARDED_BYTES: usize = 256 * 1024;

/// Middleware: leaves the connection usable, or says that it is not.
pub(crate) async fn settle(request: Request, next: Next) -> Response {
    if !body::is_announced(request.headers()) {
        return next.run(request).await;
    }
    // Reading would ask such a client to send what nobody wants.
    let waits_to_be_asked = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let mut left = Shared(Arc::new(Mutex::new(Tracked { body, ended: false })));
    let request = Request::from_parts(parts, Body::new(left.clone()));
    let mut response = next.run(request).await;
    if left.is_end_stream() || (!waits_to_be_asked && left.discard_what_is_here().await) {
        return response;
    }
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The body, held by the handler and by the middleware, which looks at it only after the handler.
#[derive(Clone)]
struct Shared(Arc<Mutex<Tracked>>);

struct Tracked {
    body: Body,
    ended: bool,
}

impl Shared {
    /// Whether that was all of it.
    async fn discard_what_is_here(&mut self) -> bool {
        let all = async {
            let mut read = 0;
            while let Some(frame) = self.frame().await {
                read += match frame {
                    Ok(frame) => frame.data_ref().map_or(0, Bytes::len),
                    Err(_) => return false,
                };
                if read > DISCARDED_BYTES {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(BRIEFLY, all).await.unwrap_or(false)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut tracked = self.0.lock();
        let frame = ready!(Pin::new(&mut tracked.body).poll_frame(context));
        tracked.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let tracked = self.0.lock();
        tracked.ended || tracked.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}
