//! Requests that the gateway sends itself: to identity providers. What answers is not trusted: no redirect is
//! followed, an answer has a time and a size, and no proxy is taken from the environment.

use std::time::Duration;

use reqwest::redirect::Policy;
use stack_auth::{Fetch, FetchError, Fetching, HttpRequest, HttpResponse};

/// From the first byte out to the last byte in. A person waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A provider's description and its keys have a few KiB.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Some providers refuse who does not say who they are.
const USER_AGENT: &str = concat!("stack-gateway/", env!("CARGO_PKG_VERSION"));

/// Sends requests by HTTP.
pub(crate) struct Outgoing {
    client: reqwest::Client,
}

impl Outgoing {
    /// A client without connections yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        Self::with_timeout(TIMEOUT)
    }

    fn with_timeout(timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(timeout)
            .no_proxy()
            .referer(false)
            .user_agent(USER_AGENT)
            .build()?;
        Ok(Self { client })
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut answer = self.client.execute(request).await.map_err(failed)?;
        let mut response = http::Response::new(Vec::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        let body = response.body_mut();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(response)
    }
}

impl Fetch for Outgoing {
    fn fetch(&self, request: HttpRequest) -> Fetching<'_> {
        Box::pin(self.send(request))
    }
}

fn failed(error: reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::TimedOut;
    }
    // Without the address: a query may hold what nobody else should read.
    FetchError::Unreachable(super::chain(&error.without_url()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::*;

    /// A server that knows four addresses.
    async fn serve(tasks: &mut JoinSet<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(respond(connection));
            }
        });
        addr
    }

    async fn respond(connection: TcpStream) {
        let mut connection = BufReader::new(connection);
        let mut first = String::new();
        connection.read_line(&mut first).await.unwrap();
        let body = |bytes: usize| {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}",
                "x".repeat(bytes)
            )
        };
        let answer = match first.split(' ').nth(1) {
            Some("/fits") => body(MAX_ANSWER_BYTES),
            Some("/too-long") => body(MAX_ANSWER_BYTES + 1),
            Some("/elsewhere") => {
                "HTTP/1.1 303 See Other\r\nlocation: /fits\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            _ => std::future::pending().await,
        };
        // Who is not interested any more has hung up.
        let _ = connection.write_all(answer.as_bytes()).await;
    }

    async fn get_from(addr: SocketAddr, path: &str) -> Result<HttpResponse, FetchError> {
        let request = http::Request::get(format!("http://{addr}{path}"));
        let outgoing = match path {
            "/never" => Outgoing::with_timeout(Duration::from_millis(50)),
            _ => Outgoing::new(),
        };
        let request = request.body(Vec::new()).unwrap();
        outgoing.unwrap().fetch(request).await
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let mut tasks = JoinSet::new();
        let addr = serve(&mut tasks).await;
        let answer = get_from(addr, "/elsewhere").await.unwrap();
        assert_eq!(answer.status(), 303);
        assert_eq!(answer.headers()["location"], "/fits");
    }

    #[tokio::test]
    async fn a_body_over_the_cap_is_cut() {
        let mut tasks = JoinSet::new();
        let addr = serve(&mut tasks).await;
        let fits = get_from(addr, "/fits").await.unwrap();
        assert_eq!(fits.body().len(), MAX_ANSWER_BYTES);
        let long = get_from(addr, "/too-long").await;
        assert!(matches!(long, Err(FetchError::TooLong)), "{long:?}");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for() {
        let mut tasks = JoinSet::new();
        let addr = serve(&mut tasks).await;
        let never = get_from(addr, "/never").await;
        assert!(matches!(never, Err(FetchError::TimedOut)), "{never:?}");
        tasks.shutdown().await;
        let gone = get_from(addr, "/fits").await;
        assert!(matches!(gone, Err(FetchError::Unreachable(_))), "{gone:?}");
    }
}
