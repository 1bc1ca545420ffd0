//! Who the people of an import are here: those who have an account, where that is certain or the operator says so, and
//! placeholders for everybody else.

use std::collections::{HashMap, HashSet};

use stack_storage::{Account, AccountKind, Placeholder, Store};
use stack_types::{Problem, Timestamp, UserId, Username};

use super::{TRIES, bad, taken, too_many};
use crate::exchange::line::UserLine;

/// Users of one import at most: they are in memory, and come in with one commit.
const MOST_USERS: usize = 200_000;
/// What stands behind the name of a placeholder, so that it takes nobody's name.
const SUFFIX: &str = ".imported";
/// A username in characters at most, without that.
const BARE_CHARS: usize = 32 - SUFFIX.len();
/// What numbers leave of it.
const KEPT_CHARS: usize = BARE_CHARS - 6;
/// A display name in characters at most.
const DISPLAY_CHARS: usize = 64;

/// Who a user of the lines is here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) id: UserId,
    /// Whether they have an account, and are no placeholder.
    pub(super) is_somebody: bool,
    /// Whether anybody can sign in to it.
    pub(super) may_sign_in: bool,
}

impl Target {
    fn of(account: &Account) -> Self {
        Self {
            id: account.user.id,
            is_somebody: !account.is_placeholder(),
            may_sign_in: account.may_sign_in(),
        }
    }
}

/// Everybody that the lines have told of.
pub(super) struct People {
    store: Store,
    match_names: bool,
    now: Timestamp,
    known: HashMap<UserId, Target>,
    names: HashSet<Username>,
    placeholders: Vec<Placeholder>,
    new_names: HashSet<Username>,
}

impl People {
    pub(super) fn new(store: Store, match_names: bool, now: Timestamp) -> Self {
        Self {
            store,
            match_names,
            now,
            known: HashMap::new(),
            names: HashSet::new(),
            placeholders: Vec::new(),
            new_names: HashSet::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Those for whom an account has to be made.
    pub(super) fn take_placeholders(&mut self) -> Vec<Placeholder> {
        std::mem::take(&mut self.placeholders)
    }

    /// Somebody whom a line names.
    pub(super) fn known(&self, field: &'static str, user: UserId) -> Result<Target, Problem> {
        let known = self.known.get(&user).copied();
        known.ok_or_else(|| {
            let detail = format!("{field} is {user}, of whom no line in front tells");
            Problem::invalid_field(field, detail)
        })
    }

    /// A line tells of somebody.
    pub(super) fn learn(&mut self, user: &UserLine) -> Result<(), Problem> {
        if self.known.contains_key(&user.id) {
            return Err(bad(format!("the user {} is there twice", user.id)));
        }
        if !self.names.insert(user.username.clone()) {
            let name = &user.username;
            return Err(bad(format!("the username {name} is there twice")));
        }
        if self.known.len() == MOST_USERS {
            return Err(too_many("users", MOST_USERS));
        }
        let target = self.target(user)?;
        self.known.insert(user.id, target);
        Ok(())
    }

    /// An account is theirs when id and username are the same, or where the operator says that names are enough.
    fn target(&mut self, user: &UserLine) -> Result<Target, Problem> {
        let of_id = self.store.account(user.id)?;
        if let Some(account) = &of_id
            && is_same(account, &user.username)
        {
            return Ok(Target::of(account));
        }
        if self.match_names
            && let Some(account) = person(&self.store, user.username.as_str())?
        {
            return Ok(Target::of(&account));
        }
        let id = match of_id {
            None => user.id,
            Some(_) => UserId::generate(self.now),
        };
        let username = self.free_name(&user.username)?;
        self.new_names.insert(username.clone());
        self.placeholders.push(Placeholder {
            id,
            username,
            display_name: clean(&user.display_name, user.username.as_str()),
        });
        Ok(Target {
            id,
            is_somebody: false,
            may_sign_in: false,
        })
    }

    fn free_name(&self, name: &Username) -> Result<Username, Problem> {
        let bare = bare(name);
        for number in 1..TRIES {
            let tried = match number {
                1 => format!("{}{SUFFIX}", cut(bare, BARE_CHARS)),
                _ => format!("{}-{number}{SUFFIX}", cut(bare, KEPT_CHARS)),
            };
            let tried: Username = tried
                .parse()
                .map_err(|error: stack_types::InvalidName| bad(error.to_string()))?;
            let is_taken = self.new_names.contains(&tried)
                || self.store.account_by_login(tried.as_str())?.is_some();
            if !is_taken {
                return Ok(tried);
            }
        }
        Err(taken(format!("no name is free that is like {name}")))
    }
}

/// Somebody who can sign in, by their username.
pub(super) fn person(store: &Store, name: &str) -> Result<Option<Account>, Problem> {
    let Ok(name) = name.parse::<Username>() else {
        return Ok(None);
    };
    let account = store.account_by_login(name.as_str())?;
    Ok(account.filter(|account| account.kind == AccountKind::Person && !account.disabled))
}

/// Whether an account of the same id is the same person's: it has their name, or is the placeholder that an import
/// before has made for them.
fn is_same(account: &Account, name: &Username) -> bool {
    let found = &account.user.username;
    match account.is_placeholder() {
        true => cut(bare(found), KEPT_CHARS) == cut(bare(name), KEPT_CHARS),
        false => found == name,
    }
}

/// A name without what a placeholder's has behind it.
fn bare(name: &Username) -> &str {
    let name = name.as_str();
    name.strip_suffix(SUFFIX).unwrap_or(name)
}

/// The beginning of a username, which is ASCII.
fn cut(name: &str, most: usize) -> &str {
    &name[..name.len().min(most)]
}

/// A display name as people may have one.
fn clean(name: &str, or: &str) -> String {
    let name: String = name
        .chars()
        .filter(|char| !char.is_control())
        .take(DISPLAY_CHARS)
        .collect();
    match name.trim() {
        "" => or.to_owned(),
        name => name.to_owned(),
    }
}
