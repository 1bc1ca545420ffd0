//! Who is who: Slack's ids, and what they are called here. Somebody is told of in front of the first line that names
//! them.

use std::collections::{HashMap, HashSet};

use stack_types::{UserId, Username};

use super::records::{Message, Profile, User};
use crate::exchange::line::{self, Line, UserLine};

/// Who says what Slack itself says.
pub(super) const SLACKBOT: &str = "USLACKBOT";

pub(super) struct People {
    known: HashMap<String, Person>,
    ids: HashSet<UserId>,
    names: HashSet<Username>,
    /// Names of channels by their ids.
    channels: HashMap<String, String>,
    told: u64,
}

struct Person {
    name: String,
    display_name: String,
    is_bot: bool,
    /// Once they are told of.
    id: Option<UserId>,
}

impl People {
    pub(super) fn new(users: Vec<User>, channels: HashMap<String, String>) -> Self {
        let known = users.into_iter().map(|user| {
            let name = user.name.unwrap_or_else(|| user.id.clone());
            let profile = user.profile.as_ref().and_then(shown);
            let person = Person {
                display_name: profile.or(user.real_name).unwrap_or_else(|| name.clone()),
                name,
                is_bot: user.is_bot == Some(true),
                id: None,
            };
            (user.id, person)
        });
        Self {
            known: known.collect(),
            ids: HashSet::new(),
            names: HashSet::new(),
            channels,
            told: 0,
        }
    }

    /// How many were told of.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// What somebody is called where they are spoken of.
    pub(super) fn name_of<'a>(&'a self, slack_id: &'a str) -> &'a str {
        self.known
            .get(slack_id)
            .map_or(slack_id, |person| &person.name)
    }

    /// What a channel is called.
    pub(super) fn channel<'a>(&'a self, slack_id: &'a str) -> &'a str {
        self.channels.get(slack_id).map_or(slack_id, String::as_str)
    }

    /// Who has sent this.
    pub(super) fn sender(&mut self, message: &Message, out: &mut Vec<u8>) -> UserId {
        let profile = message.user_profile.as_ref().and_then(shown);
        if let Some(user) = &message.user {
            return self.id_of(user, profile, out);
        }
        let bot = message.bot_profile.as_ref().and_then(shown);
        let bot = bot.or_else(|| message.username.clone());
        match (&message.bot_id, bot) {
            (Some(id), name) => {
                self.learn_bot(id, name);
                self.id_of(id, None, out)
            }
            (None, Some(name)) => {
                // It has no id: its name is all that there is of it.
                let id = format!("bot:{name}");
                self.learn_bot(&id, Some(name));
                self.id_of(&id, None, out)
            }
            (None, None) => self.id_of(SLACKBOT, None, out),
        }
    }

    fn learn_bot(&mut self, id: &str, name: Option<String>) {
        if !self.known.contains_key(id) {
            let name = name.unwrap_or_else(|| id.to_owned());
            let bot = Person {
                display_name: name.clone(),
                name,
                is_bot: true,
                id: None,
            };
            self.known.insert(id.to_owned(), bot);
        }
    }

    /// The id of somebody, who is told of if they were not yet. A guest of another workspace is not in the list, but
    /// perhaps in the message's own `profile`.
    pub(super) fn id_of(
        &mut self,
        slack_id: &str,
        profile: Option<String>,
        out: &mut Vec<u8>,
    ) -> UserId {
        let person = self.known.get(slack_id);
        if let Some(Person { id: Some(id), .. }) = person {
            return *id;
        }
        let (name, display_name, is_bot) = match person {
            Some(person) => (
                person.name.clone(),
                person.display_name.clone(),
                person.is_bot,
            ),
            None if slack_id == SLACKBOT => ("slackbot".to_owned(), "Slackbot".to_owned(), true),
            None => {
                let name = profile.unwrap_or_else(|| slack_id.to_owned());
                (name.clone(), name, false)
            }
        };
        let id = self.new_id(slack_id);
        let username = self.new_name(&name, slack_id);
        let user = UserLine {
            id,
            username,
            display_name: display_name.clone(),
            bot: is_bot,
        };
        line::write(&Line::User(user), out);
        self.told += 1;
        let person = Person {
            name,
            display_name,
            is_bot,
            id: Some(id),
        };
        self.known.insert(slack_id.to_owned(), person);
        id
    }

    /// Slack's own id, where it can be one here.
    fn new_id(&mut self, slack_id: &str) -> UserId {
        let sane = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
        let base: String = slack_id.chars().filter(sane).take(18).collect();
        let mut number = 0_u64;
        loop {
            number += 1;
            let tried = match number {
                1 => slack_id.to_owned(),
                _ => format!("{base}-{number}"),
            };
            if let Ok(id) = tried.parse::<UserId>()
                && self.ids.insert(id)
            {
                return id;
            }
        }
    }

    fn new_name(&mut self, name: &str, slack_id: &str) -> Username {
        let base = slug(name, 28).or_else(|| slug(slack_id, 28));
        let base = base.unwrap_or_else(|| "somebody".to_owned());
        let mut number = 0_u64;
        loop {
            number += 1;
            let tried = match number {
                1 => base.clone(),
                _ => format!("{}-{number}", &base[..base.len().min(22)]),
            };
            if let Ok(name) = tried.parse::<Username>()
                && self.names.insert(name.clone())
            {
                return name;
            }
        }
    }
}

fn shown(profile: &Profile) -> Option<String> {
    let names = [&profile.display_name, &profile.real_name, &profile.name];
    let mut names = names.into_iter().flatten();
    names.find(|name| !name.trim().is_empty()).cloned()
}

/// What a name gives as one of ours: small letters, digits, and what may stand between them. `None` when that is too
/// little.
pub(super) fn slug(name: &str, most: usize) -> Option<String> {
    let mut slug = String::new();
    for char in name.chars().flat_map(char::to_lowercase) {
        let is_first = slug.is_empty();
        match char {
            'a'..='z' | '0'..='9' => slug.push(char),
            '.' | '_' | '-' if !is_first => slug.push(char),
            _ if !is_first && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
        if slug.len() == most {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    (slug.len() >= 2).then(|| slug.to_owned())
}
