//! Signing in at an identity provider: a real one, the npm package `oidc-provider`, started by the test. `scripts/test`
//! installs it from its lock file in `tests/oidc`; a test without it fails.

use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use serde_json::{Value, json};
use stack_gateway::config::{Config, Inputs, OauthProvider, Registration};
use stack_testkit::{PASSWORD, PATIENCE, TestGateway};
use stack_types::Timestamp;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::admin::with_admin_and;

/// Two providers, the gateway that knows them, and the way to say who sits in front of the screen.
struct World {
    gateway: TestGateway,
    origin: String,
    control: String,
    out: Client,
    _providers: Child,
}

/// Somebody's browser.
#[derive(Clone)]
struct Browser {
    http: Client,
    origin: String,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let start = async |oauth| {
            let gateway = TestGateway::with(|config| {
                config.auth.oauth = oauth;
                change(config);
            });
            (gateway.await, ())
        };
        Self::around(start).await.0
    }

    /// Providers, and a gateway that is started with them.
    async fn around<T>(
        start: impl AsyncFnOnce(Vec<OauthProvider>) -> (TestGateway, T),
    ) -> (Self, T) {
        let (providers, places) = start_providers().await;
        let issuers = ["one", "two"].map(|name| (name, places[name].as_str().unwrap().to_owned()));
        let (gateway, more) = start(known(&issuers)).await;
        let world = Self {
            origin: format!("http://localhost:{}", gateway.addr().port()),
            gateway,
            control: places["control"].as_str().unwrap().to_owned(),
            out: Client::builder().timeout(PATIENCE).build().unwrap(),
            _providers: providers,
        };
        for (name, _) in issuers {
            let callback = format!("{}/api/v1/auth/oauth/{name}/callback", world.origin);
            let told = json!({ "provider": name, "callbacks": [callback] });
            world.tell("open", told).await;
            world
                .person(name, json!({ "sub": "ann", "name": "Ann" }))
                .await;
        }
        (world, more)
    }

    /// Who sits in front of a provider's screen.
    async fn person(&self, provider: &str, person: Value) {
        let mut person = person;
        person["provider"] = provider.into();
        self.tell("person", person).await;
    }

    async fn tell(&self, what: &str, body: Value) {
        let url = format!("{}/{what}", self.control);
        let told = self.out.post(url).json(&body).send().await.unwrap();
        assert!(told.status().is_success());
    }

    fn browser(&self) -> Browser {
        let client = Client::builder()
            .cookie_store(true)
            .redirect(Policy::none())
            .timeout(PATIENCE);
        Browser {
            http: client.build().unwrap(),
            origin: self.origin.clone(),
        }
    }

    /// Signs somebody in at a provider in a browser of their own.
    async fn sign_in(&self, provider: &str, person: Value) -> (Browser, String) {
        self.person(provider, person).await;
        let browser = self.browser();
        let page = browser.sign_in(provider).await;
        (browser, page)
    }
}

impl Browser {
    async fn get(&self, url: &str) -> Response {
        self.http.get(url).send().await.unwrap()
    }

    async fn api(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/api/v1{path}", self.origin);
        let request = self.http.request(method.parse().unwrap(), url);
        let request = request.header("origin", &self.origin);
        let request = match body {
            Value::Null => request,
            body => request.json(&body),
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Where the gateway leads to.
    async fn start(&self, provider: &str, query: &str) -> Url {
        let url = format!("{}/api/v1/auth/oauth/{provider}/start{query}", self.origin);
        let answer = self.get(&url).await;
        assert_eq!(answer.status(), 303);
        next(&answer)
    }

    /// Goes through the provider's pages until it leads back, and gives where to.
    async fn go_through(&self, from: Url) -> Url {
        let mut at = from;
        for _ in 0..12 {
            let answer = self.get(at.as_str()).await;
            assert!(
                answer.status().is_redirection(),
                "{at}: {}",
                answer.status()
            );
            at = next(&answer);
            if at.as_str().starts_with(&self.origin) {
                return at;
            }
        }
        panic!("the provider leads nowhere");
    }

    /// Comes back to the gateway, and gives the page that it leads to.
    async fn come_back(&self, to: &Url) -> String {
        let answer = self.get(to.as_str()).await;
        assert_eq!(answer.status(), 303);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let page = answer.headers()[LOCATION].to_str().unwrap();
        assert!(page.starts_with('/') && !page.starts_with("//"), "{page}");
        page.to_owned()
    }

    async fn sign_in(&self, provider: &str) -> String {
        let there = self.start(provider, "").await;
        let back = self.go_through(there).await;
        self.come_back(&back).await
    }

    /// Links an account, or shows again who somebody is.
    async fn link(&self, provider: &str, body: Value) -> String {
        let path = format!("/auth/oauth/{provider}/link");
        let (status, answer) = self.api("POST", &path, body).await;
        assert_eq!(status, 200, "{answer}");
        let there = answer["authorization_url"].as_str().unwrap();
        let back = self.go_through(there.parse().unwrap()).await;
        self.come_back(&back).await
    }

    async fn me(&self) -> Value {
        self.api("GET", "/me", Value::Null).await.1
    }

    async fn is_signed_in(&self) -> bool {
        self.api("GET", "/me", Value::Null).await.0 == 200
    }

    async fn links(&self) -> Vec<Value> {
        let (status, answer) = self.api("GET", "/auth/links", Value::Null).await;
        assert_eq!(status, 200);
        answer["links"].as_array().unwrap().clone()
    }

    /// Makes an account by password. Nobody has shown that the address is theirs.
    async fn register(&self, username: &str, email: &str) {
        let body = json!({ "username": username, "password": PASSWORD, "email": email });
        let (status, answer) = self.api("POST", "/auth/register", body).await;
        assert_eq!(status, 201, "{answer}");
    }
}

fn next(answer: &Response) -> Url {
    let to = answer.headers()[LOCATION].to_str().unwrap();
    answer.url().join(to).unwrap()
}

fn with_query(url: &Url, name: &str, value: &str) -> Url {
    let mut changed = url.clone();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut query = changed.query_pairs_mut();
    query.clear();
    for (key, old) in pairs {
        let value = if key == name { value } else { &old };
        query.append_pair(&key, value);
    }
    drop(query);
    changed
}

fn query_of(url: &Url, name: &str) -> String {
    let mut pairs = url.query_pairs();
    pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
}

/// The configuration as an operator would write it.
pub(crate) fn known(issuers: &[(&str, String)]) -> Vec<OauthProvider> {
    let mut env = Vec::new();
    for (name, issuer) in issuers {
        let prefix = format!("STACK_AUTH_OAUTH_{}", name.to_uppercase());
        env.push((format!("{prefix}_ISSUER"), issuer.clone()));
        env.push((format!("{prefix}_CLIENT_ID"), "stack".to_owned()));
        env.push((
            format!("{prefix}_CLIENT_SECRET"),
            format!("secret of {name}"),
        ));
    }
    let inputs = Inputs {
        env,
        ..Inputs::default()
    };
    Config::load(&inputs).unwrap().auth.oauth
}

async fn start_providers() -> (Child, Value) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oidc");
    let mut child = Command::new("node")
        .arg("provider.mjs")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is there");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let line = line.unwrap().unwrap();
    let line = line.expect("the providers start; `npm ci` in tests/oidc installs them");
    (child, serde_json::from_str(&line).unwrap())
}

fn ann(email: &str, verified: bool) -> Value {
    json!({
        "sub": "ann", "email": email, "email_verified": verified, "name": "Ann Smith", "preferred_username": "Ann",
    })
}

const EMAIL: &str = "ann@example.org";

#[tokio::test]
async fn signing_in_at_a_provider_makes_an_account_and_finds_it_again() {
    let world = World::new().await;
    let (browser, page) = world.sign_in("one", ann(EMAIL, true)).await;
    assert_eq!(page, "/");
    let me = browser.me().await;
    assert_eq!(me["username"], "ann");
    assert_eq!(me["display_name"], "Ann Smith");
    assert_eq!(me["email"], EMAIL);
    assert_eq!(me["role"], "member");
    let (again, _) = world.sign_in("one", ann(EMAIL, true)).await;
    assert_eq!(again.me().await["id"], me["id"]);

    let links = again.links().await;
    assert_eq!(links.len(), 1);
    assert_eq!(links[0]["provider"], "one");
    assert_eq!(links[0]["email"], EMAIL);
    // Another account there is another one here, whatever it is called.
    let other = json!({ "sub": "other", "preferred_username": "Ann" });
    let (other, _) = world.sign_in("one", other).await;
    let other = other.me().await;
    assert_ne!(other["id"], me["id"]);
    assert!(
        other["username"].as_str().unwrap().starts_with("ann-"),
        "{other}"
    );
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn the_page_for_signing_in_is_told_of_the_providers() {
    let world = World::new().await;
    let (status, answer) = world
        .browser()
        .api("GET", "/auth/providers", Value::Null)
        .await;
    assert_eq!(status, 200);
    let listed = json!([{ "name": "one", "title": "one" }, { "name": "two", "title": "two" }]);
    assert_eq!(answer["providers"], listed);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn who_says_no_there_is_told_so() {
    let world = World::new().await;
    let person = json!({ "sub": "ann", "deny": true });
    let (browser, page) = world.sign_in("one", person).await;
    assert_eq!(page, "/signin?error=denied");
    assert!(!browser.is_signed_in().await);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_wrong_state_is_refused() {
    let world = World::new().await;
    let browser = world.browser();
    let back = browser.go_through(browser.start("one", "").await).await;
    let other = "A".repeat(43);
    for state in ["", "x", other.as_str()] {
        let page = browser.come_back(&with_query(&back, "state", state)).await;
        assert_eq!(page, "/signin?error=expired");
    }
    assert!(!browser.is_signed_in().await);
    assert_eq!(browser.come_back(&back).await, "/");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_wrong_nonce_is_refused() {
    let world = World::new().await;
    let browser = world.browser();
    let there = browser.start("one", "").await;
    let there = with_query(&there, "nonce", "another");
    let back = browser.go_through(there).await;
    assert_eq!(
        browser.come_back(&back).await,
        "/signin?error=provider_error"
    );
    assert!(!browser.is_signed_in().await);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_callback_is_good_once() {
    let world = World::new().await;
    let browser = world.browser();
    let back = browser.go_through(browser.start("one", "").await).await;
    assert_eq!(browser.come_back(&back).await, "/");
    assert_eq!(browser.come_back(&back).await, "/signin?error=expired");
    world.gateway.shutdown().await;
}

/// † GHSA-x445-f3h2-j279.
#[tokio::test]
async fn the_state_is_bound_to_the_provider() {
    let world = World::new().await;
    let browser = world.browser();
    let back = browser.go_through(browser.start("one", "").await).await;
    let elsewhere = back.as_str().replace("/oauth/one/", "/oauth/two/");
    let page = browser.come_back(&elsewhere.parse().unwrap()).await;
    assert_eq!(page, "/signin?error=provider_error");
    // And the state is gone with that.
    assert_eq!(browser.come_back(&back).await, "/signin?error=expired");

    // What another provider says, brought under the state of this one.
    let one = browser.start("one", "").await;
    let two = browser.go_through(browser.start("two", "").await).await;
    let mixed = with_query(&two, "state", &query_of(&one, "state"));
    let mixed = mixed.as_str().replace("/oauth/two/", "/oauth/one/");
    let page = browser.come_back(&mixed.parse().unwrap()).await;
    assert_eq!(page, "/signin?error=provider_error");
    assert!(!browser.is_signed_in().await);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn the_state_is_bound_to_the_browser() {
    let world = World::new().await;
    let (mine, theirs) = (world.browser(), world.browser());
    let back = mine.go_through(mine.start("one", "").await).await;
    assert_eq!(theirs.come_back(&back).await, "/signin?error=wrong_browser");
    assert!(!theirs.is_signed_in().await);
    // Who has begun something else is somebody else all the same.
    theirs.start("one", "").await;
    let back = mine.go_through(mine.start("one", "").await).await;
    assert_eq!(theirs.come_back(&back).await, "/signin?error=wrong_browser");
    // A second tab does not end what the first has begun.
    let back = mine.go_through(mine.start("one", "").await).await;
    mine.start("two", "").await;
    assert_eq!(mine.come_back(&back).await, "/");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn email_linking_in_all_four_cases() {
    let world = World::new().await;

    // Verified there and here: they are one account.
    let (first, _) = world.sign_in("one", ann(EMAIL, true)).await;
    let (second, page) = world.sign_in("two", ann("Ann@Example.org", true)).await;
    assert_eq!(page, "/");
    assert_eq!(second.me().await["id"], first.me().await["id"]);
    assert_eq!(second.links().await.len(), 2);

    // Unverified there, verified here: refused.
    let other = json!({ "sub": "mallory", "email": EMAIL, "email_verified": false });
    let (third, page) = world.sign_in("two", other).await;
    assert_eq!(page, "/signin?error=email_exists");
    assert!(!third.is_signed_in().await);

    // Unverified there and here: refused.
    let bob = world.browser();
    bob.register("bob", "bob@example.org").await;
    let there = json!({ "sub": "bob", "email": "bob@example.org", "email_verified": false });
    let (fourth, page) = world.sign_in("two", there).await;
    assert_eq!(page, "/signin?error=email_exists");
    assert!(!fourth.is_signed_in().await);
    assert!(bob.is_signed_in().await);

    // Verified there, unverified here: theirs from now on, and nobody else's.
    let there = json!({ "sub": "bob", "email": "bob@example.org", "email_verified": true });
    let id = bob.me().await["id"].clone();
    let (fifth, page) = world.sign_in("two", there).await;
    assert_eq!(page, "/");
    assert_eq!(fifth.me().await["id"], id);
    assert!(!bob.is_signed_in().await);
    let login = json!({ "login": "bob", "password": PASSWORD });
    assert_eq!(bob.api("POST", "/auth/login", login).await.0, 401);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn an_address_that_is_not_verified_is_not_kept() {
    let world = World::new().await;
    let (browser, page) = world.sign_in("one", ann(EMAIL, false)).await;
    assert_eq!(page, "/");
    assert_eq!(browser.me().await["email"], Value::Null);
    // Its owner is not kept out.
    world.browser().register("real-ann", EMAIL).await;
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_as_that() {
    let world = World::new().await;
    let browser = world.browser();
    let back = browser.go_through(browser.start("one", "").await).await;
    world.tell("down", json!({ "provider": "one" })).await;
    world.tell("down", json!({ "provider": "two" })).await;
    // Between the two steps, and before the first.
    let unavailable = "/signin?error=provider_unavailable";
    assert_eq!(browser.come_back(&back).await, unavailable);
    assert_eq!(
        browser.start("two", "").await.as_str(),
        format!("{}{unavailable}", world.origin)
    );
    browser.register("ann", EMAIL).await;
    let (status, answer) = browser.api("POST", "/auth/oauth/two/link", json!({})).await;
    assert_eq!((status, &answer["code"]), (503, &json!("unavailable")));
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn an_account_is_linked_and_unlinked() {
    let world = World::new().await;
    let browser = world.browser();
    browser.register("ann", EMAIL).await;
    // The address there is another one: a link that its owner asks for needs none.
    world
        .person("one", json!({ "sub": "ann", "email": "a@b.example" }))
        .await;
    let page = browser
        .link("one", json!({ "return_to": "/settings/linked" }))
        .await;
    assert_eq!(page, "/settings/linked");
    let links = browser.links().await;
    assert_eq!(links[0]["provider"], "one");
    assert_eq!(links[0]["last_used_at"], Value::Null);

    let elsewhere = world.browser();
    assert_eq!(elsewhere.sign_in("one").await, "/");
    assert_eq!(elsewhere.me().await["username"], "ann");

    // Somebody else cannot link it too, nor the same one again.
    let bob = world.browser();
    bob.register("bob", "bob@example.org").await;
    for browser in [&bob, &browser] {
        let page = browser
            .link("one", json!({ "return_to": "/settings/linked" }))
            .await;
        assert_eq!(page, "/signin?error=already_linked");
    }
    assert_eq!(bob.links().await, [] as [Value; 0]);

    let path = format!("/auth/links/{}", links[0]["id"].as_str().unwrap());
    assert_eq!(bob.api("DELETE", &path, Value::Null).await.0, 404);
    assert_eq!(browser.api("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(browser.api("DELETE", &path, Value::Null).await.0, 404);
    // What is unlinked signs in to nothing that was.
    let (after, _) = world.sign_in("one", json!({ "sub": "ann" })).await;
    assert_ne!(after.me().await["id"], browser.me().await["id"]);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn the_last_link_stays() {
    let world = World::new().await;
    let (browser, _) = world.sign_in("one", ann(EMAIL, true)).await;
    let path = format!(
        "/auth/links/{}",
        browser.links().await[0]["id"].as_str().unwrap()
    );
    let (status, answer) = browser.api("DELETE", &path, Value::Null).await;
    assert_eq!((status, &answer["code"]), (409, &json!("conflict")));
    assert_eq!(browser.links().await.len(), 1);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn an_old_sign_in_links_nothing_until_it_is_shown_again() {
    const MINUTE: Duration = Duration::from_secs(60);
    // The provider's clock is the system's, and an ID token is good from then on; so ours begins earlier.
    let now = Timestamp(UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
    let clock = stack_testkit::clock();
    clock.set(now.minus(11 * MINUTE));
    let world = World::with(|config| config.testing.clock = Some(clock.clone())).await;
    let (browser, _) = world.sign_in("one", ann(EMAIL, true)).await;
    clock.set(now.minus(2 * MINUTE));
    let (status, _) = browser.api("POST", "/auth/refresh", Value::Null).await;
    assert_eq!(status, 200);
    clock.set(now);
    let link = json!({ "return_to": "/settings/linked" });
    let path = "/auth/oauth/two/link";
    let (status, answer) = browser.api("POST", path, link.clone()).await;
    assert_eq!((status, &answer["field"]), (403, &json!("reauthenticate")));

    let again = json!({ "return_to": "/settings/security", "reauthenticate": true });
    assert_eq!(browser.link("one", again).await, "/settings/security");
    assert_eq!(browser.link("two", link).await, "/settings/linked");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn who_shows_again_who_they_are_is_asked_for_it_there() {
    let world = World::new().await;
    let (browser, _) = world.sign_in("one", ann(EMAIL, true)).await;
    let again = json!({ "return_to": "/settings/security", "reauthenticate": true });
    let (_, answer) = browser
        .api("POST", "/auth/oauth/one/link", again.clone())
        .await;
    let there: Url = answer["authorization_url"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(query_of(&there, "prompt"), "login");
    assert_eq!(query_of(&there, "max_age"), "0");
    // Somebody else there is not who they are here.
    world.person("one", json!({ "sub": "mallory" })).await;
    let back = world.browser().go_through(there).await;
    let page = browser.come_back(&back).await;
    assert_eq!(page, "/signin?error=not_linked");
    world.person("one", ann(EMAIL, true)).await;
    assert_eq!(browser.link("one", again).await, "/settings/security");
    world.gateway.shutdown().await;
}

/// Who signs out, or in as somebody else, does not finish what was begun before.
#[tokio::test]
async fn a_link_is_made_in_the_session_that_asked_for_it() {
    let world = World::new().await;
    let browser = world.browser();
    let begin = async || {
        let (_, answer) = browser
            .api(
                "POST",
                "/auth/oauth/one/link",
                json!({ "return_to": "/settings/linked" }),
            )
            .await;
        let there = answer["authorization_url"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        world.browser().go_through(there).await
    };
    browser.register("ann", EMAIL).await;
    let back = begin().await;
    browser.api("POST", "/auth/logout", Value::Null).await;
    let page = browser.come_back(&back).await;
    assert_eq!(page, "/signin?error=expired");

    browser.register("bob", "bob@example.org").await;
    let back = begin().await;
    browser.register("eve", "eve@example.org").await;
    let page = browser.come_back(&back).await;
    assert_eq!(page, "/signin?error=wrong_browser");
    assert_eq!(browser.links().await, [] as [Value; 0]);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn pkce_is_always_s256() {
    let world = World::new().await;
    let browser = world.browser();
    for provider in ["one", "two"] {
        let there = browser.start(provider, "").await;
        assert_eq!(query_of(&there, "code_challenge_method"), "S256");
        assert_eq!(query_of(&there, "code_challenge").len(), 43);
        assert_eq!(query_of(&there, "response_type"), "code");
        assert_eq!(query_of(&there, "state").len(), 43);
        assert_eq!(query_of(&there, "nonce").len(), 43);
        let callback = format!("{}/api/v1/auth/oauth/{provider}/callback", world.origin);
        assert_eq!(query_of(&there, "redirect_uri"), callback);
    }
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn only_pages_of_ours_are_come_back_to() {
    let world = World::new().await;
    let browser = world.browser();
    let there = browser
        .start("one", "?return_to=%2Fr%2Fgeneral%3Fat%3D7")
        .await;
    let back = browser.go_through(there).await;
    assert_eq!(browser.come_back(&back).await, "/r/general?at=7");
    for evil in [
        "%2F%2Fevil.example",
        "https%3A%2F%2Fevil.example",
        "%2F%5Cevil.example",
        "%2Fapi%2Fv1%2Fme",
    ] {
        let path = format!("/auth/oauth/one/start?return_to={evil}");
        let (status, answer) = browser.api("GET", &path, Value::Null).await;
        assert_eq!(
            (status, &answer["field"]),
            (422, &json!("return_to")),
            "{evil}"
        );
    }
    let (status, _) = browser
        .api("GET", "/auth/oauth/three/start", Value::Null)
        .await;
    assert_eq!(status, 404);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_sign_in_is_begun_at_the_public_address() {
    let world = World::new().await;
    let browser = world.browser();
    let start = format!(
        "{}/api/v1/auth/oauth/one/start?return_to=%2F",
        world.gateway.origin()
    );
    let answer = browser.get(&start).await;
    assert_eq!(answer.status(), 303);
    let there = format!("{}/api/v1/auth/oauth/one/start?return_to=%2F", world.origin);
    assert_eq!(next(&answer).as_str(), there);
    world.gateway.shutdown().await;
}

/// † Tuwunel #318, #331: the first account of a server is nobody's crown.
#[tokio::test]
async fn the_first_oauth_user_is_no_admin() {
    let world = World::new().await;
    let (browser, _) = world.sign_in("one", ann(EMAIL, true)).await;
    assert_eq!(browser.me().await["role"], "member");
    let (status, _) = browser
        .api("GET", "/admin/rate-counters", Value::Null)
        .await;
    assert_eq!(status, 403);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn nobody_new_comes_in_where_accounts_are_not_made() {
    let closed = World::with(|config| {
        config.auth.registration = Registration::Closed;
    })
    .await;
    let (browser, page) = closed.sign_in("one", ann(EMAIL, true)).await;
    assert_eq!(page, "/signin?error=registration_closed");
    assert!(!browser.is_signed_in().await);
    closed.gateway.shutdown().await;

    let world = World::with(|config| config.auth.oauth[0].allow_registration = false).await;
    let (_, page) = world.sign_in("one", ann(EMAIL, true)).await;
    assert_eq!(page, "/signin?error=not_linked");
    // Who has an account by another way may link it, and sign in then.
    let (browser, _) = world.sign_in("two", ann(EMAIL, true)).await;
    assert_eq!(browser.link("one", json!({})).await, "/");
    assert_eq!(world.browser().sign_in("one").await, "/");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn an_invitation_lets_in_through_a_provider_and_into_its_rooms() {
    let folder = tempfile::tempdir().unwrap();
    let start = async |oauth| {
        let change = |config: &mut Config| {
            config.auth.oauth = oauth;
            config.auth.registration = Registration::Invite;
        };
        with_admin_and(&folder, change).await
    };
    let (world, admin) = World::around(start).await;
    admin.room("den", false).await;
    let asked = json!({ "rooms": [{ "room": "den", "role": "member" }] });
    let made = admin.post("/api/v1/invites", asked).await.expect(201);
    let (_, invite) = made["url"].as_str().unwrap().split_once('#').unwrap();

    let browser = world.browser();
    assert_eq!(
        browser.sign_in("one").await,
        "/signin?error=registration_closed"
    );
    let body = json!({ "invite": invite });
    let (status, answer) = browser.api("POST", "/auth/oauth/one/start", body).await;
    assert_eq!(status, 200, "{answer}");
    let there: Url = answer["authorization_url"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(!there.as_str().contains(invite));
    let back = browser.go_through(there).await;
    assert_eq!(browser.come_back(&back).await, "/");
    let (status, den) = browser.api("GET", "/rooms/den", Value::Null).await;
    assert_eq!((status, &den["role"]), (200, &json!("member")));
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_page_from_elsewhere_begins_no_sign_in() {
    let world = World::new().await;
    let browser = world.browser();
    let url = format!("{}/api/v1/auth/oauth/one/start", world.origin);
    for (site, leads_here) in [
        ("cross-site", true),
        ("same-site", true),
        ("same-origin", false),
        ("none", false),
    ] {
        let asked = browser.http.get(&url).header("sec-fetch-site", site);
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 303);
        let to = answer.headers()[LOCATION].to_str().unwrap();
        assert_eq!(to == "/signin", leads_here, "{site}: {to}");
        assert_eq!(answer.headers().contains_key("set-cookie"), !leads_here);
    }
    let asked = browser
        .http
        .post(&url)
        .header("sec-fetch-site", "cross-site");
    assert_eq!(asked.send().await.unwrap().status(), 403);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_callback_is_never_answered_with_a_problem() {
    let world = World::new().await;
    let browser = world.browser();
    let long = "a".repeat(8000);
    for query in [
        "",
        "?",
        "?state=%ff%00",
        "?state=a&state=b",
        "?error=access_denied",
        &format!("?code={long}&state={long}"),
    ] {
        let url = format!("{}/api/v1/auth/oauth/one/callback{query}", world.origin);
        let page = browser.come_back(&url.parse().unwrap()).await;
        assert_eq!(page, "/signin?error=expired", "{query}");
    }
    world.gateway.shutdown().await;
}
