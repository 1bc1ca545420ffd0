//! What each route of the API asks of its caller, in one table. It is the outer gate: whether somebody may do
//! something in a room is decided behind it, by `stack-rooms`.
//!
//! A route that is not in the table is refused to everybody, so that none is reachable that nobody has decided on.
//! The table in `docs/SECURITY.md` is this one.

use http::Method;
use stack_auth::{Caller, Scope};
use stack_types::{Problem, RoomId, Timestamp};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: what it gives depends on what else the request holds.
    Anyone,
    /// A person in a session.
    Session,
    /// The same, who has shown a short while ago who they are: for what changes how they sign in.
    RecentSession,
    /// A person who is signed in, or a program whose key has this scope.
    Scope(Scope),
    /// The same, but no room token that is bound to rooms.
    Unbound(Scope),
    /// A program whose key has this scope, and nobody else.
    Key(Scope),
    /// An admin, or an admin's program with the scope for it.
    Admin,
    /// An admin who has shown a short while ago who they are: for what gives power to somebody. No program is one.
    RecentAdmin,
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

const READ: Need = Need::Scope(Scope::Read);
const SEND: Need = Need::Scope(Scope::Send);
const ROOMS: Need = Need::Scope(Scope::Rooms);
const PRESENCE: Need = Need::Scope(Scope::Presence);

/// Every route below `/api/v1`.
pub(crate) const ROUTES: &[(Method, &str, Need)] = &[
    // Accounts and sessions.
    (POST, "/auth/register", Need::Anyone),
    (POST, "/auth/login", Need::Anyone),
    (POST, "/auth/refresh", Need::Anyone),
    (GET, "/auth/csrf", Need::Anyone),
    (POST, "/auth/password", Need::Session),
    (POST, "/auth/logout", Need::Session),
    (GET, "/auth/sessions", Need::Session),
    (DELETE, "/auth/sessions/{session_id}", Need::Session),
    (POST, "/auth/ticket", Need::Session),
    // The second factor, recovery, invitations, and accounts as admins see them.
    (POST, "/auth/login/second-factor", Need::Anyone),
    (POST, "/auth/reauthenticate", Need::Session),
    (GET, "/auth/totp", Need::Session),
    (DELETE, "/auth/totp", Need::RecentSession),
    (POST, "/auth/totp/enroll", Need::RecentSession),
    (POST, "/auth/totp/confirm", Need::RecentSession),
    (POST, "/auth/recovery-codes", Need::RecentSession),
    (DELETE, "/auth/sessions/others", Need::Session),
    (POST, "/auth/recover", Need::Anyone),
    (POST, "/auth/recover/look", Need::Anyone),
    (GET, "/registration", Need::Anyone),
    (GET, "/invites", Need::Admin),
    (POST, "/invites", Need::Admin),
    (POST, "/invites/look", Need::Anyone),
    (DELETE, "/invites/{invite_id}", Need::Admin),
    (GET, "/admin/users", Need::Admin),
    (POST, "/admin/users", Need::RecentAdmin),
    (PATCH, "/admin/users/{user_id}", Need::RecentAdmin),
    (POST, "/admin/users/{user_id}/recovery", Need::RecentAdmin),
    (POST, "/admin/users/{user_id}/erasure", Need::RecentAdmin),
    (GET, "/admin/erasures", Need::Admin),
    (POST, "/me/erasure", Need::RecentSession),
    (GET, "/me/erasures", Need::Session),
    // Identity providers.
    (GET, "/auth/providers", Need::Anyone),
    (GET, "/auth/oauth/{provider}/start", Need::Anyone),
    (POST, "/auth/oauth/{provider}/start", Need::Anyone),
    (GET, "/auth/oauth/{provider}/callback", Need::Anyone),
    // To link an account there a recent sign-in is needed, which is asked for behind this: who comes here to show
    // again who they are has none.
    (POST, "/auth/oauth/{provider}/link", Need::Session),
    (GET, "/auth/links", Need::Session),
    (DELETE, "/auth/links/{link_id}", Need::RecentSession),
    // Passkeys and the first run.
    (GET, "/auth/passkeys", Need::Session),
    (PATCH, "/auth/passkeys/{passkey_id}", Need::RecentSession),
    (DELETE, "/auth/passkeys/{passkey_id}", Need::RecentSession),
    (POST, "/auth/passkeys/register/begin", Need::RecentSession),
    (POST, "/auth/passkeys/register/finish", Need::RecentSession),
    (POST, "/auth/passkeys/signup/begin", Need::Anyone),
    (POST, "/auth/passkeys/signup/finish", Need::Anyone),
    (POST, "/auth/passkeys/login/begin", Need::Anyone),
    (POST, "/auth/passkeys/login/finish", Need::Anyone),
    (POST, "/auth/passkeys/reauthenticate/begin", Need::Session),
    (POST, "/auth/passkeys/reauthenticate/finish", Need::Session),
    (GET, "/setup", Need::Anyone),
    (POST, "/setup/password", Need::Anyone),
    (POST, "/setup/passkey/begin", Need::Anyone),
    (POST, "/setup/passkey/finish", Need::Anyone),
    // People.
    (GET, "/me", READ),
    (PATCH, "/me", Need::Session),
    (GET, "/users", Need::Unbound(Scope::Read)),
    (GET, "/users/{user_id}", Need::Unbound(Scope::Read)),
    // Rooms.
    (GET, "/rooms", READ),
    (POST, "/rooms", ROOMS),
    (GET, "/rooms/{room}", READ),
    (PATCH, "/rooms/{room}", ROOMS),
    (DELETE, "/rooms/{room}", ROOMS),
    (GET, "/rooms/{room}/members", READ),
    (PUT, "/rooms/{room}/members/{user_id}", ROOMS),
    (DELETE, "/rooms/{room}/members/{user_id}", ROOMS),
    (GET, "/rooms/{room}/bans", ROOMS),
    (PUT, "/rooms/{room}/bans/{user_id}", ROOMS),
    (DELETE, "/rooms/{room}/bans/{user_id}", ROOMS),
    (GET, "/rooms/{room}/mutes", ROOMS),
    (PUT, "/rooms/{room}/mutes/{user_id}", ROOMS),
    (DELETE, "/rooms/{room}/mutes/{user_id}", ROOMS),
    (POST, "/rooms/{room}/owner", ROOMS),
    (GET, "/rooms/{room}/presence", READ),
    // Messages.
    (GET, "/rooms/{room}/messages", READ),
    (POST, "/rooms/{room}/messages", SEND),
    (PATCH, "/rooms/{room}/messages/{seq}", SEND),
    (DELETE, "/rooms/{room}/messages/{seq}", SEND),
    (PUT, "/rooms/{room}/messages/{seq}/reactions/{emoji}", SEND),
    (
        DELETE,
        "/rooms/{room}/messages/{seq}/reactions/{emoji}",
        SEND,
    ),
    (PUT, "/rooms/{room}/read", PRESENCE),
    // The server.
    (GET, "/admin/stats", Need::Admin),
    (GET, "/admin/rooms/{room}/messages/{seq}/trace", Need::Admin),
    (GET, "/admin/rate-counters", Need::Admin),
    (DELETE, "/admin/rate-counters/{key}", Need::Admin),
    // Programs, and the audit log.
    (GET, "/api-keys", Need::Admin),
    (POST, "/api-keys", Need::RecentAdmin),
    (DELETE, "/api-keys/{key_id}", Need::Admin),
    (POST, "/chat/token", Need::Key(Scope::ChatToken)),
    (GET, "/admin/audit", Need::Admin),
    (GET, "/admin/audit/export", Need::Admin),
    // There only when a test asked for them.
    (GET, "/testing/panic", Need::Anyone),
    (GET, "/testing/never", Need::Anyone),
];

/// What a route asks for, by its pattern below `/api/v1`. A `HEAD` is a `GET`.
pub(crate) fn need(method: &Method, pattern: &str) -> Option<Need> {
    let method = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    ROUTES
        .iter()
        .find(|(known, path, _)| known == method && *path == pattern)
        .map(|(_, _, need)| *need)
}

impl Need {
    /// The same, where the route names a room: a room token is good in its rooms only.
    ///
    /// # Errors
    /// As [`Need::check`].
    pub(crate) fn check_in_room(
        self,
        caller: &Result<Caller, Problem>,
        room: Option<&RoomId>,
    ) -> Result<(), Problem> {
        match (self, caller, room) {
            (Self::Scope(scope), Ok(caller), Some(room)) => caller.require_in_room(scope, room),
            // A room that cannot be read is none that a token names.
            (_, Ok(caller), None) if caller.rooms().is_some() => {
                Err(Problem::forbidden("the room token is not good here"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller has shown what is asked for.
    ///
    /// # Errors
    /// Why it is not known who calls, or `forbidden`.
    pub(crate) fn check(
        self,
        caller: &Result<Caller, Problem>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        if self == Self::Anyone {
            return Ok(());
        }
        let caller = caller.as_ref().map_err(Clone::clone)?;
        match self {
            Self::Anyone => Ok(()),
            Self::Session => caller.require_session(),
            Self::RecentSession => caller.require_recent(now),
            Self::Scope(scope) => caller.require_scope(scope),
            Self::Unbound(scope) => caller.require_unbound(scope),
            Self::Key(scope) => caller.require_key(scope).map(|_| ()),
            Self::Admin => caller.require_admin(),
            // In this order: who is no admin would sign in again for nothing.
            Self::RecentAdmin => caller
                .require_admin()
                .and_then(|()| caller.require_recent(now)),
        }
    }
}

/// The methods of a pattern, as an `Allow` header lists them; empty when the pattern is not in the table.
pub(crate) fn allowed(pattern: &str) -> String {
    let mut methods: Vec<&str> = Vec::new();
    for (method, path, _) in ROUTES {
        if *path == pattern {
            methods.push(method.as_str());
            if method == Method::GET {
                methods.push("HEAD");
            }
        }
    }
    methods.join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stack_auth::{Credential, SignInMethod};
    use stack_types::{ErrorCode, GlobalRole, SessionId, User, UserId};

    use super::*;

    #[test]
    fn a_route_stands_once() {
        for (at, (method, path, _)) in ROUTES.iter().enumerate() {
            let again = ROUTES[at + 1..]
                .iter()
                .any(|(other, again, _)| other == method && again == path);
            assert!(!again, "{method} {path}");
            assert!(path.starts_with('/'), "{path}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_needed_by_anybody() {
        assert_eq!(need(&Method::GET, "/me"), Some(READ));
        assert_eq!(need(&Method::HEAD, "/me"), Some(READ));
        assert_eq!(need(&Method::PUT, "/me"), None);
        assert_eq!(need(&Method::GET, "/you"), None);
        assert_eq!(allowed("/me"), "GET,HEAD,PATCH");
        assert_eq!(allowed("/you"), "");
    }

    #[test]
    fn the_audit_log_is_only_read() {
        let of_audit = ROUTES.iter().filter(|(_, path, _)| path.contains("audit"));
        let methods: Vec<_> = of_audit.map(|(method, ..)| method).collect();
        assert_eq!(methods, [Method::GET, Method::GET]);
    }

    #[test]
    fn an_old_sign_in_is_no_recent_one() {
        const NOW: Timestamp = Timestamp(1_700_000_000_000);
        let caller = |role, minutes: u64| {
            Ok(Caller {
                user: User {
                    id: UserId::generate(NOW),
                    username: "ann".parse().unwrap(),
                    display_name: "Ann".to_owned(),
                    role,
                    created_at: NOW,
                },
                session_id: SessionId::generate(NOW),
                credential: Credential::Session {
                    authenticated_at: NOW.minus(Duration::from_secs(60 * minutes)),
                    method: SignInMethod::Passkey,
                },
                expires_at: NOW,
            })
        };
        let (member, admin) = (GlobalRole::Member, GlobalRole::Admin);
        assert!(Need::RecentSession.check(&caller(member, 10), NOW).is_ok());
        assert!(Need::RecentAdmin.check(&caller(admin, 10), NOW).is_ok());
        for (need, caller, field) in [
            (
                Need::RecentSession,
                caller(member, 11),
                Some("reauthenticate"),
            ),
            (Need::RecentAdmin, caller(admin, 11), Some("reauthenticate")),
            (Need::RecentAdmin, caller(member, 11), None),
        ] {
            let refused = need.check(&caller, NOW).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Forbidden);
            assert_eq!(refused.field.as_deref(), field);
        }
    }

    #[test]
    fn nobody_is_let_in_only_where_anybody_is() {
        let nobody = Err(Problem::new(ErrorCode::TokenExpired, "over"));
        for (method, path, need) in ROUTES {
            match need.check(&nobody, Timestamp(0)) {
                Ok(()) => assert_eq!(*need, Need::Anyone, "{method} {path}"),
                // Why it is not known who calls is told as it is: an ended token is the cue to refresh.
                Err(refused) => assert_eq!(refused.code, ErrorCode::TokenExpired),
            }
        }
    }

    /// The first two columns of the tables in `docs/SECURITY.md` whose first column begins like this.
    fn documented(begins: fn(&str) -> bool) -> Vec<(String, String)> {
        let page = include_str!("../../../../docs/SECURITY.md");
        let cells = |line: &str| -> Option<(String, String)> {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let first = cells.next()?.trim_end_matches('`');
            let second = cells.next()?;
            begins(first).then(|| (first.to_owned(), second.replace('`', "")))
        };
        page.lines().filter_map(cells).collect()
    }

    fn scope(scope: Scope) -> String {
        let name = serde_json::to_value(scope).unwrap();
        format!("scope {}", name.as_str().unwrap())
    }

    #[test]
    fn the_documented_rights_are_these() {
        let told = |need: &Need| match need {
            Need::Anyone => "nothing".to_owned(),
            Need::Session => "a session".to_owned(),
            Need::RecentSession => "a recent session".to_owned(),
            Need::Scope(of) => scope(*of),
            Need::Unbound(of) => format!("{} unbound", scope(*of)),
            Need::Key(of) => format!("a key with {}", scope(*of)),
            Need::Admin => "an admin".to_owned(),
            Need::RecentAdmin => "a recent admin".to_owned(),
        };
        let enforced: Vec<_> = ROUTES
            .iter()
            .map(|(method, path, need)| (format!("{method} {path}"), told(need)))
            .collect();
        assert_eq!(documented(|first| first.contains(" /")), enforced);
    }

    #[test]
    fn the_documented_frames_are_these() {
        use crate::ws::access::{FrameNeed, TYPES};

        let told = |need: &FrameNeed| match need {
            FrameNeed::Anyone => "nothing".to_owned(),
            FrameNeed::Scope(of) => scope(*of),
            FrameNeed::Join => scope(Scope::Rooms),
        };
        let enforced: Vec<_> = TYPES
            .iter()
            .map(|(kind, need)| ((*kind).to_owned(), told(need)))
            .collect();
        let is_frame = |first: &str| !first.contains([' ', '/']);
        assert_eq!(documented(is_frame), enforced);
    }
}
