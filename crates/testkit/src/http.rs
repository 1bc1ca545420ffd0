//! The HTTP clients of a test.

use std::sync::Arc;

use reqwest::cookie::{CookieStore as _, Jar};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::{Value, json};

use crate::{PASSWORD, PATIENCE, TestGateway};

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    origin: String,
    jar: Arc<Jar>,
    says_origin: bool,
}

/// A request in the making.
#[derive(Debug)]
#[must_use]
pub struct Call {
    request: RequestBuilder,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

/// Somebody with an account, who calls with a bearer token.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their id.
    pub id: String,
    /// Their access token.
    pub token: String,
    /// Their refresh token.
    pub refresh_token: String,
    client: Client,
}

impl Client {
    /// A client without cookies, as programs have, of whatever is at this origin.
    #[must_use]
    pub fn program(origin: String) -> Self {
        Self::new(origin, false)
    }

    pub(crate) fn browser(origin: String) -> Self {
        Self::new(origin, true)
    }

    fn new(origin: String, browser: bool) -> Self {
        let jar = Arc::new(Jar::default());
        let builder = reqwest::Client::builder().timeout(PATIENCE);
        let builder = if browser {
            builder.cookie_provider(jar.clone())
        } else {
            builder
        };
        Self {
            http: builder.build().expect("an HTTP client can be made"),
            origin,
            jar,
            says_origin: browser,
        }
    }

    /// The same client, cookies shared, that does not say where its page is from.
    #[must_use]
    pub fn without_origin(&self) -> Self {
        Self {
            says_origin: false,
            ..self.clone()
        }
    }

    /// A request.
    pub fn call(&self, method: &str, path: &str) -> Call {
        let method: Method = method.parse().expect("a method");
        let unsafe_method = !matches!(method, Method::GET | Method::HEAD);
        let mut request = self.http.request(method, format!("{}{path}", self.origin));
        if self.says_origin && unsafe_method {
            request = request.header("origin", &self.origin);
        }
        Call { request }
    }

    /// `GET`
    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    /// `POST`
    pub fn post(&self, path: &str) -> Call {
        self.call("POST", path)
    }

    /// `PUT`
    pub fn put(&self, path: &str) -> Call {
        self.call("PUT", path)
    }

    /// `PATCH`
    pub fn patch(&self, path: &str) -> Call {
        self.call("PATCH", path)
    }

    /// `DELETE`
    pub fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    /// The value of a cookie that would be sent to `path`.
    #[must_use]
    pub fn cookie(&self, path: &str, name: &str) -> Option<String> {
        let url: Url = format!("{}{path}", self.origin)
            .parse()
            .expect("an address");
        let header = self.jar.cookies(&url)?;
        let header = header.to_str().expect("cookies are text");
        header
            .split("; ")
            .find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    /// Makes an account and signs it in with cookies.
    pub async fn register(&self, username: &str) -> Answer {
        let body = json!({ "username": username, "password": PASSWORD });
        self.post("/api/v1/auth/register").json(&body).send().await
    }

    /// Signs in with cookies.
    pub async fn login(&self, login: &str) -> Answer {
        let body = json!({ "login": login, "password": PASSWORD });
        self.post("/api/v1/auth/login").json(&body).send().await
    }
}

impl Call {
    /// Adds a header.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.header_value(
            name,
            HeaderValue::from_str(value).expect("a header's value"),
        )
    }

    /// Adds a header that need not be text.
    pub fn header_value(self, name: &str, value: HeaderValue) -> Self {
        Self {
            request: self.request.header(name, value),
        }
    }

    /// Adds a bearer token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Adds a body without saying what it is.
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self {
            request: self.request.body(body),
        }
    }

    /// Sends it and reads the answer.
    pub async fn send(self) -> Answer {
        let response = self.request.send().await.expect("the gateway answers");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = response.bytes().await.expect("the answer has an end");
        Answer {
            status,
            headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

impl Answer {
    /// A header, empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a header of text"))
    }

    /// Every value of a header.
    #[must_use]
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values
            .map(|value| value.to_str().expect("a header of text"))
            .collect()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The body as JSON, of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.text.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The body, of an answer that is this problem and is so in every way.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        assert_eq!(
            problem["request_id"],
            self.header("x-request-id"),
            "{self:?}"
        );
        for member in ["type", "title", "detail"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{member}: {self:?}"
            );
        }
        problem
    }
}

impl Person {
    /// Makes an account and signs it in, with a bearer token.
    pub async fn register(client: Client, username: &str) -> Self {
        let body = json!({ "username": username, "password": PASSWORD, "token_delivery": "body" });
        let answer = client
            .post("/api/v1/auth/register")
            .json(&body)
            .send()
            .await;
        Self::of(client, &answer.expect(201))
    }

    pub(crate) fn of(client: Client, answer: &Value) -> Self {
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        Self {
            id: text(&answer["user"]["id"]),
            token: text(&answer["access_token"]),
            refresh_token: text(&answer["refresh_token"]),
            client,
        }
    }

    /// The same person's client, at another gateway or at one that was started again.
    #[must_use]
    pub fn at(&self, gateway: &TestGateway) -> Self {
        Self {
            client: gateway.program(),
            ..self.clone()
        }
    }

    /// Signs in once more, as another device would.
    pub async fn another_device(&self, login: &str) -> Self {
        let body = json!({ "login": login, "password": PASSWORD, "token_delivery": "body" });
        let answer = self
            .client
            .post("/api/v1/auth/login")
            .json(&body)
            .send()
            .await;
        Self::of(self.client.clone(), &answer.expect(200))
    }

    /// A request with the person's token.
    pub fn call(&self, method: &str, path: &str) -> Call {
        self.client.call(method, path).bearer(&self.token)
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path).json(&body).send().await
    }

    /// `PUT` with a JSON body.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path).json(&body).send().await
    }

    /// `PATCH` with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path).json(&body).send().await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path).send().await
    }

    /// Makes a room.
    pub async fn room(&self, id: &str, public: bool) -> Value {
        let body = json!({ "id": id, "title": id, "settings": { "public": public } });
        self.post("/api/v1/rooms", body).await.expect(201)
    }

    /// Says something in a room, and gives the event's number.
    pub async fn say(&self, room: &str, body: &str) -> u64 {
        let path = format!("/api/v1/rooms/{room}/messages");
        let sent = self.post(&path, json!({ "body": body })).await.expect(201);
        sent["seq"].as_u64().expect("a number")
    }
}
