//! Everything that comes from outside is answered, whatever it is.

use proptest::prelude::*;
use stack_auth::{Client, Delivery, Login, Register};
use stack_types::ErrorCode;

use crate::support::{Fixture, code};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn tokens_of_any_kind(texts in prop::collection::vec(any::<String>(), 8)) {
        runtime().block_on(async {
            let fixture = Fixture::new();
            for text in &texts {
                let unauthenticated = ErrorCode::Unauthenticated;
                assert_eq!(code(fixture.auth.authenticate(text)), unauthenticated);
                assert_eq!(code(fixture.refresh(text).await), unauthenticated);
                assert_eq!(code(fixture.auth.redeem_ws_ticket(text)), unauthenticated);
                assert_eq!(code(fixture.auth.verify_csrf(text, text, None)), ErrorCode::CsrfFailed);
                assert_eq!(fixture.auth.session_of_refresh(text), None);
            }
        });
    }

    #[test]
    fn logins_of_any_kind(login in any::<String>(), password in any::<String>()) {
        runtime().block_on(async {
            let fixture = Fixture::new();
            let asked = Login { login, password, delivery: Delivery::Body };
            let refused = code(fixture.auth.login(asked, &fixture.client).await);
            assert!(matches!(refused, ErrorCode::InvalidCredentials | ErrorCode::InvalidField));
        });
    }

    #[test]
    fn registrations_of_any_kind(
        username in any::<String>(),
        password in "\\PC{0,80}",
        email in any::<Option<String>>(),
        display_name in any::<Option<String>>(),
        user_agent in any::<Option<String>>(),
    ) {
        runtime().block_on(async {
            let fixture = Fixture::new();
            let client = Client::new("192.0.2.1".parse().unwrap(), user_agent.as_deref());
            let asked = Register { username, password, email, display_name, invite: None, delivery: Delivery::Body };
            if let Err(problem) = fixture.auth.register(asked, &client).await {
                assert_eq!(problem.code, ErrorCode::InvalidField);
            }
        });
    }

    #[test]
    fn a_changed_refresh_token_is_nobodys(at in 0usize..200, byte in 0u8..128) {
        runtime().block_on(async {
            let fixture = Fixture::new();
            let tokens = fixture.register("ann").await;
            let mut bytes = tokens.refresh_token.clone().into_bytes();
            let at = at % bytes.len();
            if bytes[at] != byte {
                bytes[at] = byte;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(code(fixture.refresh(&changed).await), ErrorCode::Unauthenticated);
            }
            // A forgery does not hurt the session.
            fixture.refresh(&tokens.refresh_token).await.unwrap();
        });
    }
}
