//! Accounts that are found by the e-mail address a provider vouches for: what is written is what was looked at.

use stack_types::LinkId;

use super::*;

const EMAIL: &str = "ann@example.org";

impl Fixture {
    fn by_email(&self, owner: UserId, subject: &str, email: &str) -> LinkByEmail {
        LinkByEmail {
            link: NewLink {
                id: LinkId::generate(self.clock.now()),
                user_id: owner,
                provider: "example".to_owned(),
                issuer: "https://id.example".to_owned(),
                subject: subject.to_owned(),
                email: Some(email.to_owned()),
            },
            email: email.to_owned(),
            session: self.new_session(owner, 5),
            audit: entry(AuditAction::Login),
        }
    }

    async fn adopt(
        &self,
        owner: UserId,
        subject: &str,
        email: &str,
    ) -> Result<Vec<SessionId>, AddLinkError> {
        let asked = self.by_email(owner, subject, email);
        let adopted = self.store.adopt_unverified_account(asked).await.unwrap();
        adopted.map(|(_, _, revoked)| revoked)
    }

    async fn link_verified(
        &self,
        owner: UserId,
        subject: &str,
        email: &str,
    ) -> Result<(), AddLinkError> {
        let asked = self.by_email(owner, subject, email);
        self.store.link_by_email(asked).await.unwrap().map(|_| ())
    }
}

#[tokio::test]
async fn an_account_is_adopted_once_and_linked_after_that() {
    let fixture = fixture();
    let ann = fixture.user("ann", Some(EMAIL)).await.unwrap().user.id;
    let session = fixture.session(ann, 1).await;
    let kind = Ceremony::RecoveryLink;
    let whose = CeremonyOwner::User(ann);
    let link = fixture
        .store
        .put_ceremony(kind, whose, [9; 32], String::new(), MINUTE);
    link.await.unwrap();
    assert_eq!(
        fixture.link_verified(ann, "a", EMAIL).await,
        Err(AddLinkError::Stale)
    );
    assert_eq!(
        fixture.adopt(ann, "a", "b@example.org").await,
        Err(AddLinkError::Stale)
    );
    assert!(fixture.store.ways_in(ann).unwrap().password);

    assert_eq!(fixture.adopt(ann, "a", EMAIL).await, Ok(vec![session.id]));
    let account = fixture.store.account(ann).unwrap().unwrap();
    assert!(account.email_verified);
    assert_eq!(account.password_hash, None);
    // A recovery link of before leads nowhere.
    assert_eq!(fixture.store.ceremony(kind, [9; 32]).unwrap(), None);
    // It is theirs now: whoever was about to take it from its maker comes too late.
    assert_eq!(
        fixture.adopt(ann, "b", EMAIL).await,
        Err(AddLinkError::Stale)
    );
    assert_eq!(
        fixture.link_verified(ann, "a", EMAIL).await,
        Err(AddLinkError::Taken)
    );
    assert_eq!(fixture.link_verified(ann, "b", EMAIL).await, Ok(()));
    let ways = fixture.store.ways_in(ann).unwrap();
    assert_eq!((ways.password, ways.links), (false, 2));
    assert_eq!(
        fixture.actions().await,
        [
            "register",
            "login",
            "account_adopted",
            "oauth_linked",
            "login",
            "oauth_linked",
            "login"
        ]
    );
}

#[tokio::test]
async fn an_adoption_that_is_refused_has_changed_nothing() {
    let fixture = fixture();
    let ann = fixture.user("ann", Some(EMAIL)).await.unwrap().user.id;
    let bob = fixture
        .user("bob", Some("bob@example.org"))
        .await
        .unwrap()
        .user
        .id;
    assert!(fixture.adopt(bob, "b", "bob@example.org").await.is_ok());
    let session = fixture.session(ann, 1).await;
    assert_eq!(
        fixture.adopt(ann, "b", EMAIL).await,
        Err(AddLinkError::Taken)
    );
    let disabled = fixture
        .store
        .set_disabled(ann, true, entry(AuditAction::AccountDisabled));
    disabled.await.unwrap().unwrap();
    assert_eq!(
        fixture.adopt(ann, "a", EMAIL).await,
        Err(AddLinkError::Stale)
    );
    let (_, account) = fixture
        .store
        .session_with_account(session.id)
        .unwrap()
        .unwrap();
    assert!(account.password_hash.is_some() && !account.email_verified);
    assert_eq!(fixture.store.oauth_links_of(ann).unwrap(), []);
}

#[tokio::test]
async fn no_address_opens_an_admins_account() {
    let fixture = fixture();
    let ann = fixture.user("ann", Some(EMAIL)).await.unwrap().user.id;
    let bob = "bob@example.org";
    let bobs = fixture.user("bob", Some(bob)).await.unwrap().user.id;
    assert!(fixture.adopt(ann, "a", EMAIL).await.is_ok());
    for admin in [ann, bobs] {
        let entry = entry(AuditAction::RoleChanged);
        let made = fixture.store.set_role(admin, GlobalRole::Admin, entry);
        made.await.unwrap().unwrap();
    }
    // The one whose address is verified, and the one whose address is not.
    let linked = fixture.link_verified(ann, "b", EMAIL).await;
    assert_eq!(linked, Err(AddLinkError::Stale));
    let adopted = fixture.adopt(bobs, "c", bob).await;
    assert_eq!(adopted, Err(AddLinkError::Stale));
    assert_eq!(fixture.store.oauth_links_of(ann).unwrap().len(), 1);
}
