//! An identity provider that answers what a test says: OpenID at `https://id.example`, and what GitHub and Discord have
//! instead. It keeps what it was asked.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use stack_auth::{
    Fetch, FetchError, Fetching, HttpRequest, HttpResponse, OauthConfig, Preset, ProviderConfig,
};

pub(crate) const ISSUER: &str = "https://id.example";
const SECRET: &str = "the secret that the client and the provider share";

/// The provider.
pub(crate) struct Provider {
    key: EcdsaKeyPair,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Value>,
    /// Answers that are no JSON, or not meant to be; they come first.
    raw: HashMap<String, Vec<u8>>,
    down: bool,
    asked: Vec<String>,
    sent: Vec<String>,
}

impl Provider {
    /// One that describes itself well.
    pub(crate) fn new() -> Arc<Self> {
        let provider = Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            state: Mutex::default(),
        };
        provider.answer(
            "/.well-known/openid-configuration",
            json!({
                "issuer": ISSUER,
                "authorization_endpoint": "https://id.example/authorize",
                "token_endpoint": "https://id.example/token",
                "userinfo_endpoint": "https://id.example/userinfo",
                "jwks_uri": "https://id.example/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
            }),
        );
        provider.answer("/jwks", json!({ "keys": [provider.jwk("first")] }));
        Arc::new(provider)
    }

    /// From now on, this is what it answers at this path.
    pub(crate) fn answer(&self, path: &str, answer: Value) {
        self.state.lock().answers.insert(path.to_owned(), answer);
    }

    /// The same, word for word.
    pub(crate) fn answer_raw(&self, path: &str, answer: &str) {
        let answer = answer.as_bytes().to_vec();
        self.state.lock().raw.insert(path.to_owned(), answer);
    }

    /// Changes what it says of itself.
    pub(crate) fn describe(&self, name: &str, value: Value) {
        let mut state = self.state.lock();
        let described = state.answers.get_mut("/.well-known/openid-configuration");
        described.unwrap()[name] = value;
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }

    /// How often it was asked at this path.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let state = self.state.lock();
        state.asked.iter().filter(|asked| *asked == path).count()
    }

    /// The bodies that were sent to it.
    pub(crate) fn sent(&self) -> Vec<String> {
        self.state.lock().sent.clone()
    }

    /// Its public key under some name.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let point = self.key.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        })
    }

    /// A token with these claims, signed in the way that `alg` says.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let body = format!("{}.{}", text(header), text(claims));
        let signature = match header["alg"].as_str() {
            Some("ES256") => {
                let signed = self.key.sign(&SystemRandom::new(), body.as_bytes());
                signed.unwrap().as_ref().to_vec()
            }
            Some("HS256") => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                hmac::sign(&key, body.as_bytes()).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The next exchange of a code brings this ID token.
    pub(crate) fn will_give(&self, id_token: &str) {
        let answer = json!({
            "access_token": "access", "token_type": "Bearer", "expires_in": 60, "id_token": id_token,
        });
        self.answer("/token", answer);
    }

    fn respond(&self, request: &HttpRequest) -> Result<HttpResponse, FetchError> {
        let mut state = self.state.lock();
        let path = request.uri().path().to_owned();
        state.asked.push(path.clone());
        let sent = String::from_utf8(request.body().clone()).unwrap();
        state.sent.push(sent);
        if state.down {
            return Err(FetchError::Unreachable("it is down".to_owned()));
        }
        let mut response = HttpResponse::new(Vec::new());
        let json = "application/json".parse().unwrap();
        response.headers_mut().insert("content-type", json);
        if let Some(answer) = state.raw.get(&path) {
            *response.body_mut() = answer.clone();
            return Ok(response);
        }
        match state.answers.get(&path) {
            Some(answer) => *response.body_mut() = answer.to_string().into_bytes(),
            None => *response.status_mut() = 404.try_into().unwrap(),
        }
        Ok(response)
    }
}

impl Fetch for Provider {
    fn fetch(&self, request: HttpRequest) -> Fetching<'_> {
        let answer = self.respond(&request);
        Box::pin(async move { answer })
    }
}

/// `one` and `two` are the provider, under two names; `github` and `discord` are what they are called.
pub(crate) fn config(fetch: Arc<dyn Fetch>) -> OauthConfig {
    let plain = [Preset::Github, Preset::Discord].map(Some);
    let of = |name: &str, preset: Option<Preset>| ProviderConfig {
        name: name.to_owned(),
        title: name.to_uppercase(),
        preset,
        issuer: preset.is_none().then(|| ISSUER.to_owned()),
        client_id: "stack".to_owned(),
        client_secret: SECRET.to_owned(),
        scopes: Vec::new(),
        allow_registration: true,
    };
    OauthConfig {
        providers: vec![
            of("one", None),
            of("two", None),
            of("github", plain[0]),
            of("discord", plain[1]),
        ],
        callbacks: "https://chat.example/api/v1/auth/oauth".to_owned(),
        fetch,
    }
}
