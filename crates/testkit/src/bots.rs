//! Bots, and the administrator who makes them.

use serde_json::json;

use crate::{PASSWORD, Person, TestGateway};

/// A program's account.
#[derive(Debug, Clone)]
pub struct Bot {
    /// The bot's id.
    pub id: String,
    /// Its API key's id.
    pub key_id: String,
    /// Its API key.
    pub token: String,
}

impl TestGateway {
    /// Makes the first administrator, by the setup token.
    pub async fn administrator(&self, username: &str) -> Person {
        let token = self.setup_token().expect("there is no administrator yet");
        let body = json!({ "token": token, "username": username, "password": PASSWORD });
        let program = self.program();
        let call = program.post("/api/v1/setup/password").json(&body);
        call.send().await.expect(201);
        let body = json!({ "login": username, "password": PASSWORD, "token_delivery": "body" });
        let call = program.post("/api/v1/auth/login").json(&body);
        let signed_in = call.send().await.expect(200);
        Person::of(program, &signed_in)
    }
}

impl Person {
    /// Makes a bot. For administrators who signed in just now.
    pub async fn bot(&self, name: &str, scopes: &[&str]) -> Bot {
        let asked = json!({ "name": name, "scopes": scopes });
        let made = self.post("/api/v1/api-keys", asked).await.expect(201);
        let text = |pointer: &str| {
            let value = made.pointer(pointer).and_then(|value| value.as_str());
            value.expect("a text").to_owned()
        };
        Bot {
            id: text("/user/id"),
            key_id: text("/id"),
            token: text("/key"),
        }
    }

    /// Brings somebody into a room, as a member.
    pub async fn bring(&self, room: &str, user_id: &str) {
        let path = format!("/api/v1/rooms/{room}/members/{user_id}");
        self.put(&path, json!({ "role": "member" }))
            .await
            .expect(200);
    }

    /// Every event of a room, as a subscriber gets it.
    pub async fn log(&self, room: &str) -> Vec<serde_json::Value> {
        let mut events = Vec::new();
        loop {
            let after = events.len();
            let path = format!("/api/v1/rooms/{room}/messages?after={after}&limit=500");
            let page = self.get(&path).await.expect(200);
            let some = page["events"].as_array().expect("events").clone();
            if some.is_empty() {
                return events;
            }
            events.extend(some);
        }
    }
}
