//! How often somebody may call: the short-term limits of SECURITY.md, in bounded memory. The long-term ones, which
//! outlive a restart, are kept by the crates that own what they guard.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stack_rate::{CallerKey, DEFAULT_CAPACITY, IpKey, Limiter, Quota, Quotas, RetryAfter};
use stack_types::{Clock, SessionId, UserId};

const QUOTAS: Quotas = Quotas::DEFAULT;

/// Frames of one user's sockets, of any kind. A client that comes back subscribes to its rooms, up to 256, and people have
/// several tabs; beyond that it is a flood, and what is dear has a limit of its own besides.
const FRAMES: Quota = Quota::new(1500, Duration::from_secs(10));
/// Changes of one user's presence: each is told in every room the user is in.
const PRESENCE: Quota = Quota::new(10, Duration::from_secs(10));
/// Repeats of one refresh token. Fifty tabs that wake at once are one rotation and forty-nine repeats, and none of
/// them has done anything wrong; hammering one token all the same is.
const REPEAT: Quota = Quota::new(120, Duration::from_secs(60));

/// Sign-ins that are begun at identity providers. Each is remembered for ten minutes, and one network must not fill up
/// what there is for all; an office behind one address may arrive at nine.
const OAUTH: Quota = Quota::new(60, Duration::from_secs(60));

/// Ceremonies of passkeys that strangers begin, and their answers. Each is remembered for five minutes, and a page that
/// offers passkeys begins one when it is opened. Not of the sign-ins by password: who tries those must not stop these.
const CEREMONY: Quota = Quota::new(60, Duration::from_secs(60));

/// Ceremonies that somebody begins who is signed in: each is a deliberate step.
const OWN_CEREMONY: Quota = Quota::new(10, Duration::from_secs(60));
/// Passwords of somebody who is signed in, each of which is hashed: to change it, to show again who they are, to turn
/// the second factor off.
const OWN_PASSWORD: Quota = Quota::new(10, Duration::from_secs(60));
/// Tickets for sockets. What there is for all is bounded, and so is what one user can have of it: twice the sockets that
/// they may open, in the time that a ticket lives.
const TICKET: Quota = Quota::new(64, Duration::from_secs(30));
/// Looks at invitations and recovery links, whose secrets nobody guesses. A page makes one when it is opened.
const LOOK: Quota = Quota::new(60, Duration::from_secs(60));
/// Links for recovery and for the first run that are redeemed.
const REDEEM: Quota = Quota::new(10, Duration::from_secs(3 * 60));

/// The limiters.
pub(crate) struct Rates {
    /// Looked at with every frame, so that it is not behind a lock.
    enabled: AtomicBool,
    hasher: RandomState,
    api: Limiter<CallerKey>,
    login: Limiter<IpKey>,
    oauth: Limiter<IpKey>,
    ceremony: Limiter<IpKey>,
    look: Limiter<IpKey>,
    redeem: Limiter<IpKey>,
    own_ceremony: Limiter<UserId>,
    own_password: Limiter<UserId>,
    ticket: Limiter<UserId>,
    frames: Limiter<UserId>,
    presence: Limiter<UserId>,
    second_factor: Limiter<UserId>,
    no_ticket: Limiter<u64>,
    refresh: Limiter<SessionId>,
    first_use: Limiter<u64>,
    repeat: Limiter<u64>,
}

impl Rates {
    /// The limiters, all buckets full.
    pub(crate) fn new(enabled: bool, clock: &Arc<dyn Clock>) -> Self {
        Self {
            enabled: AtomicBool::new(enabled),
            hasher: RandomState::new(),
            api: limiter(QUOTAS.api, clock),
            login: limiter(QUOTAS.login, clock),
            oauth: limiter(OAUTH, clock),
            ceremony: limiter(CEREMONY, clock),
            look: limiter(LOOK, clock),
            redeem: limiter(REDEEM, clock),
            own_ceremony: limiter(OWN_CEREMONY, clock),
            own_password: limiter(OWN_PASSWORD, clock),
            ticket: limiter(TICKET, clock),
            frames: limiter(FRAMES, clock),
            presence: limiter(PRESENCE, clock),
            second_factor: limiter(QUOTAS.second_factor, clock),
            no_ticket: limiter(QUOTAS.second_factor, clock),
            refresh: limiter(QUOTAS.refresh, clock),
            first_use: limiter(Quota::new(1, REPEAT.per()), clock),
            repeat: limiter(REPEAT, clock),
        }
    }

    /// Lets them hold or not, from now on. What was taken meanwhile is not made up for.
    pub(crate) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// How often each has refused.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 14] {
        [
            ("api", self.api.refused()),
            ("login", self.login.refused()),
            ("oauth", self.oauth.refused()),
            ("ceremony", self.ceremony.refused()),
            ("look", self.look.refused()),
            ("redeem", self.redeem.refused()),
            ("own_ceremony", self.own_ceremony.refused()),
            ("own_password", self.own_password.refused()),
            ("ticket", self.ticket.refused()),
            ("frame", self.frames.refused()),
            ("presence", self.presence.refused()),
            ("second_factor", self.second_factor.refused()),
            ("refresh", self.refresh.refused()),
            ("refresh_repeat", self.repeat.refused()),
        ]
    }

    /// A call of the API.
    pub(crate) fn api(&self, user: Option<UserId>, ip: IpAddr) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        let key = user.map_or_else(|| CallerKey::Ip(ip.into()), CallerKey::User);
        self.api.check(&key)
    }

    /// A frame from a socket.
    pub(crate) fn frame(&self, user: UserId) -> Result<(), RetryAfter> {
        if self.enabled() {
            self.frames.check(&user)
        } else {
            Ok(())
        }
    }

    /// A change of somebody's presence.
    pub(crate) fn presence(&self, user: UserId) -> Result<(), RetryAfter> {
        if self.enabled() {
            self.presence.check(&user)
        } else {
            Ok(())
        }
    }

    /// An attempt to sign in.
    pub(crate) fn login(&self, ip: IpAddr) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.login.check(&IpKey::from(ip))
    }

    /// A code that is tried as somebody's second factor, wherever it is asked for.
    pub(crate) fn second_factor(&self, user: UserId) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.second_factor.check(&user)
    }

    /// An attempt at the second step of a sign-in that there is not. Tickets that somebody makes up fill no map that those
    /// of others stand in.
    pub(crate) fn no_ticket(&self, ticket: &str) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.no_ticket.check(&self.hasher.hash_one(ticket))
    }

    /// A sign-in that is begun at an identity provider.
    pub(crate) fn oauth(&self, ip: IpAddr) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.oauth.check(&IpKey::from(ip))
    }

    /// A look at what a link is for.
    pub(crate) fn look(&self, ip: IpAddr) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.look.check(&IpKey::from(ip))
    }

    /// A link for recovery or for the first run that is redeemed.
    pub(crate) fn redeem(&self, ip: IpAddr) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.redeem.check(&IpKey::from(ip))
    }

    /// A ceremony of a passkey or at an identity provider that somebody begins who is signed in.
    pub(crate) fn own_ceremony(&self, user: UserId) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.own_ceremony.check(&user)
    }

    /// A password that somebody shows who is signed in.
    pub(crate) fn own_password(&self, user: UserId) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.own_password.check(&user)
    }

    /// A ticket for a socket.
    pub(crate) fn ticket(&self, user: UserId) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.ticket.check(&user)
    }

    /// A ceremony of a passkey that somebody begins or answers who is not signed in.
    pub(crate) fn ceremony(&self, ip: IpAddr) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        self.ceremony.check(&IpKey::from(ip))
    }

    /// An attempt to refresh. `session` is the one that the token was made for, if we made it.
    pub(crate) fn refresh(
        &self,
        session: Option<SessionId>,
        token: &str,
    ) -> Result<(), RetryAfter> {
        if !self.enabled() {
            return Ok(());
        }
        let hash = self.hasher.hash_one(token);
        match session {
            Some(session) if self.first_use.check(&hash).is_ok() => self.refresh.check(&session),
            _ => self.repeat.check(&hash),
        }
    }
}

fn limiter<K: Hash + Eq + Clone>(quota: Quota, clock: &Arc<dyn Clock>) -> Limiter<K> {
    Limiter::new(quota, DEFAULT_CAPACITY, clock.clone())
}

#[cfg(test)]
mod tests {
    use stack_types::{ManualClock, Timestamp};

    use super::*;

    fn rates() -> Rates {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        Rates::new(true, &clock)
    }

    fn allowed(mut call: impl FnMut() -> Result<(), RetryAfter>) -> usize {
        (0..1000).take_while(|_| call().is_ok()).count()
    }

    #[test]
    fn repeats_of_one_token_are_no_rotations() {
        let rates = rates();
        let [session, other] = [1, 2].map(|ms| Some(SessionId::generate(Timestamp(ms))));
        assert_eq!(allowed(|| rates.refresh(session, "one")), 121);
        let mut next = 0;
        let rotate = || {
            next += 1;
            rates.refresh(session, &format!("token {next}"))
        };
        assert_eq!(allowed(rotate), 29);
        assert!(rates.refresh(other, "another").is_ok());
    }

    #[test]
    fn a_second_factor_counts_by_user() {
        let rates = rates();
        let [one, two] = [1, 2].map(|ms| UserId::generate(Timestamp(ms)));
        assert_eq!(allowed(|| rates.second_factor(one)), 3);
        assert_eq!(allowed(|| rates.second_factor(two)), 3);
        assert_eq!(allowed(|| rates.no_ticket("one")), 3);
        assert_eq!(allowed(|| rates.no_ticket("two")), 3);
    }

    #[test]
    fn what_somebody_does_who_is_signed_in_counts_by_user() {
        let rates = rates();
        let [one, two] = [1, 2].map(|ms| UserId::generate(Timestamp(ms)));
        for user in [one, two] {
            assert_eq!(allowed(|| rates.own_ceremony(user)), 10);
            assert_eq!(allowed(|| rates.own_password(user)), 10);
            assert_eq!(allowed(|| rates.ticket(user)), 64);
        }
    }

    #[test]
    fn looks_and_links_are_no_sign_ins() {
        let rates = rates();
        let ip = [192, 0, 2, 1].into();
        assert_eq!(allowed(|| rates.look(ip)), 60);
        assert_eq!(allowed(|| rates.redeem(ip)), 10);
        assert_eq!(allowed(|| rates.login(ip)), 10);
        assert_eq!(allowed(|| rates.ceremony(ip)), 60);
    }

    #[test]
    fn ceremonies_of_strangers_count_by_address() {
        let rates = rates();
        let (one, two) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert_eq!(allowed(|| rates.ceremony(one)), 60);
        assert_eq!(allowed(|| rates.ceremony(two)), 60);
    }

    #[test]
    fn a_login_counts_by_address() {
        let rates = rates();
        let from = |ip: &str| allowed(|| rates.login(ip.parse().unwrap()));
        assert_eq!(from("192.0.2.1"), 10);
        assert_eq!(from("2001:db8::1"), 10);
        assert_eq!(from("2001:db8::2"), 0);
        assert_eq!(from("127.0.0.1"), 10);
    }

    #[test]
    fn sign_ins_at_providers_count_by_address() {
        let rates = rates();
        let from = |ip: &str| allowed(|| rates.oauth(ip.parse().unwrap()));
        assert_eq!(from("192.0.2.1"), 60);
        assert_eq!(from("192.0.2.2"), 60);
        assert_eq!(allowed(|| rates.login("192.0.2.1".parse().unwrap())), 10);
    }

    #[test]
    fn a_user_has_a_bucket_of_their_own() {
        let rates = rates();
        let ip = "192.0.2.1".parse().unwrap();
        assert_eq!(allowed(|| rates.api(None, ip)), 300);
        let user = UserId::generate(Timestamp(1));
        assert_eq!(allowed(|| rates.api(Some(user), ip)), 300);
    }
}
