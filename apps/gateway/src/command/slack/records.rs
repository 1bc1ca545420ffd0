//! What is read of Slack's JSON. Everything that may be missing, or null, is optional.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) real_name: Option<String>,
    pub(super) is_bot: Option<bool>,
    pub(super) profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Profile {
    pub(super) name: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) real_name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Channel {
    pub(super) id: String,
    pub(super) name: Option<String>,
    /// In seconds.
    pub(super) created: Option<u64>,
    pub(super) creator: Option<String>,
    pub(super) is_archived: Option<bool>,
    pub(super) members: Option<Vec<String>>,
    pub(super) topic: Option<Text>,
    pub(super) purpose: Option<Text>,
    pub(super) pins: Option<Vec<serde::de::IgnoredAny>>,
    /// Whether it is to be a public room; not Slack's.
    #[serde(skip)]
    pub(super) is_public: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Text {
    pub(super) value: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) subtype: Option<String>,
    /// Seconds and microseconds, and the message's identity in its channel.
    pub(super) ts: String,
    pub(super) user: Option<String>,
    pub(super) bot_id: Option<String>,
    pub(super) username: Option<String>,
    pub(super) user_profile: Option<Profile>,
    pub(super) bot_profile: Option<Profile>,
    pub(super) text: Option<String>,
    /// The message that it answers, which has its own as well.
    pub(super) thread_ts: Option<String>,
    pub(super) edited: Option<Edited>,
    pub(super) reactions: Option<Vec<Reaction>>,
    pub(super) files: Option<Vec<Option<File>>>,
    pub(super) file: Option<File>,
    pub(super) attachments: Option<Vec<Attachment>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Edited {
    pub(super) user: Option<String>,
    pub(super) ts: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reaction {
    pub(super) name: String,
    pub(super) users: Option<Vec<String>>,
    pub(super) count: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) title: Option<String>,
    pub(super) permalink: Option<String>,
    pub(super) url_private: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Attachment {
    pub(super) pretext: Option<String>,
    pub(super) title: Option<String>,
    pub(super) title_link: Option<String>,
    pub(super) text: Option<String>,
    pub(super) fallback: Option<String>,
    pub(super) from_url: Option<String>,
    pub(super) image_url: Option<String>,
}
