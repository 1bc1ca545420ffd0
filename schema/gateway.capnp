# What a gateway says to programs: over its local socket (RPC, from the interface Gateway on) and, as the messages
# ClientFrame and ServerFrame, over a WebSocket of the sub-protocol stack.v1.capnp.
#
# Rules of change: docs/PROTOCOL.md, "Changing the schema". Ordinals are never reused, fields never change their type,
# nothing is removed; a new field's default must mean what its absence meant before.
@0xb7d1f0a2c5e3984d;

# An event of a room's log. What stands in the union is what happened.
struct Event {
  room @0 :Text;
  # Counts 1, 2, 3 … in the room, without a hole.
  seq @1 :UInt64;
  # Unix milliseconds. Never falls as seq grows.
  ts @2 :UInt64;
  # User id.
  sender @3 :Text;

  union {
    message @4 :Message;
    # What is left of a message that was taken back, at its place.
    tombstone @5 :Void;
    edited @6 :Edited;
    redacted @7 :Redacted;
    reacted @8 :Reacted;
    roomChange @9 :RoomChange;
    memberChange @10 :MemberChange;
  }
}

struct Message {
  body @0 :Text;
  # JSON, as the sender wrote it. Empty: none.
  data @1 :Text;
  # The sender's idempotency key. Empty: none.
  key @2 :Text;
  # The seq of the message that this one answers. 0: none.
  replyTo @3 :UInt64;
}

struct Edited {
  target @0 :UInt64;
  # The new text.
  body @1 :Text;
  # The message was taken back since, and the text with it.
  stripped @2 :Bool;
}

struct Redacted {
  target @0 :UInt64;
  # Empty: none was given.
  reason @1 :Text;
  # Not empty: all that the sender had said was erased, and these are the events that were changed for it, `target`
  # among them.
  targets @2 :List(UInt64);
}

struct Reacted {
  target @0 :UInt64;
  # Empty: the reaction was erased.
  emoji @1 :Text;
  # The reaction was taken back.
  remove @2 :Bool;
}

struct RoomChange {
  enum Action {
    created @0;
    changed @1;
  }
  action @0 :Action;
  title @1 :Text;
  settings @2 :RoomSettings;
}

struct RoomSettings {
  enum History {
    members @0;
    joined @1;
  }
  public @0 :Bool;
  history @1 :History;
  retentionDays @2 :UInt32;
  maxMessageBytes @3 :UInt32;
  slowModeS @4 :UInt32;
  allowGuests @5 :Bool;
  messagesPer10s @6 :UInt32;
  # Only the newest so many events are kept. 0: all.
  retentionMessages @7 :UInt32;
}

enum Role {
  none @0;
  guest @1;
  member @2;
  moderator @3;
  owner @4;
}

struct MemberChange {
  enum Action {
    joined @0;
    left @1;
    removed @2;
    banned @3;
    unbanned @4;
    muted @5;
    unmuted @6;
    role @7;
  }
  action @0 :Action;
  # Whom it concerns.
  userId @1 :Text;
  # The role now, with joined and role.
  role @2 :Role;
  # Why, with removed and banned. Empty: none was given.
  reason @3 :Text;
}

# Why something was refused.
struct Problem {
  # Such as "not_found": the closed set of docs/PROTOCOL.md.
  code @0 :Text;
  detail @1 :Text;
  # Which field is at fault. Empty: none in particular.
  field @2 :Text;
  retryable @3 :Bool;
  # 0: not told.
  retryAfterMs @4 :UInt64;
}

# Where a message stands.
struct Place {
  room @0 :Text;
  seq @1 :UInt64;
  ts @2 :UInt64;
}

# Events that follow each other, of one room.
struct Page {
  events @0 :List(Event);
  head @1 :UInt64;
  first @2 :UInt64;
}

# Where a page begins or ends; exclusive.
struct Cursor {
  union {
    # The newest page.
    newest @0 :Void;
    after @1 :UInt64;
    before @2 :UInt64;
    # The page that begins with the first event later than this, in Unix milliseconds.
    afterTs @3 :UInt64;
  }
}

# Where a subscription begins.
struct Start {
  union {
    # With the next event.
    live @0 :Void;
    # Behind this one; 0 is the beginning.
    after @1 :UInt64;
  }
}

struct Room {
  id @0 :Text;
  title @1 :Text;
  settings @2 :RoomSettings;
  # The caller's.
  role @3 :Role;
  first @4 :UInt64;
  head @5 :UInt64;
  readSeq @6 :UInt64;
  createdAt @7 :UInt64;
}

struct User {
  id @0 :Text;
  username @1 :Text;
  displayName @2 :Text;
  # "admin" or "member".
  role @3 :Text;
  createdAt @4 :UInt64;
  disabled @5 :Bool;
  # Whether it is a program's.
  bot @6 :Bool;
}

enum Status {
  online @0;
  away @1;
  busy @2;
  offline @3;
}

struct Presence {
  userId @0 :Text;
  status @1 :Status;
  text @2 :Text;
  # Unix milliseconds. 0: not known.
  lastSeenAt @3 :UInt64;
}

# ---------------------------------------------------------------------------------------------------------------------
# RPC over the local socket. A call that is refused fails with an exception whose reason ends in the problem as JSON,
# {"code":"not_found","message":"…","retryable":false}, as in the protocol's error frame.
# ---------------------------------------------------------------------------------------------------------------------

# What stands at the socket.
interface Gateway {
  # With a bot's token. Everything further is what that bot may do.
  login @0 (token :Text) -> (session :Session, userId :Text, scopes :List(Text));
  # For whoever runs the gateway: the peer's user is the gateway's own, or root. To anybody else it is `forbidden`.
  operator @1 () -> (admin :Admin);
  version @2 () -> (version :Text, commit :Text, protocols :List(Text));
  # For another gateway that is this one's edge; what comes back is an Origin of edge.capnp.
  edge @3 (version :UInt32) -> (origin :AnyPointer);
}

# A bot that has logged in. When its token is revoked every call is `unauthenticated`, and every subscription ends.
interface Session {
  # Answered when the message is on disk.
  send @0 (room :Text, message :Message) -> (place :Place);
  edit @1 (room :Text, seq :UInt64, body :Text) -> (place :Place);
  redact @2 (room :Text, seq :UInt64, reason :Text) -> (place :Place);
  react @3 (room :Text, seq :UInt64, emoji :Text, remove :Bool) -> (place :Place);
  # limit 0: 50. At most 500.
  history @4 (room :Text, cursor :Cursor, limit :UInt32) -> (page :Page);
  # Every event from the start on, each once, in order. The sink is given more when it has answered for enough of what
  # it was given before; a slow one is served from the log and loses nothing.
  subscribe @5 (room :Text, start :Start, sink :Sink)
      -> (subscription :Subscription, head :UInt64, first :UInt64, role :Role, readSeq :UInt64);
  presence @6 (room :Text) -> (users :List(Presence), count :UInt64, version :UInt64);
  rooms @7 () -> (rooms :List(Room));
  join @8 (room :Text) -> (role :Role);
  leave @9 (room :Text) -> ();
  read @10 (room :Text, seq :UInt64) -> ();
  # Wants the scope `admin`.
  admin @11 () -> (admin :Admin);
  # Somebody whom the caller may know of.
  user @12 (id :Text) -> (user :User);
}

# Takes a subscription's events.
interface Sink {
  # Of one room, in order.
  events @0 (events :List(Event)) -> stream;
  # These events cannot be had any more; the cursor moves past `to`.
  gap @1 (from :UInt64, to :UInt64, reason :Text) -> stream;
  # The subscription is over: "left", "removed", "banned", "private" or "deleted", or "revoked" with its session.
  ended @2 (reason :Text) -> ();
}

# Dropping it ends the subscription.
interface Subscription {}

# What the operator, or a bot with the scope `admin`, may do.
interface Admin {
  # Writes the whole file, as of now, to a new file on the gateway's machine, and opens that to see that it is sound.
  snapshot @0 (path :Text) -> (bytes :UInt64);
  stats @1 () -> (stats :List(Figure));
  # Ends one session, or with an empty id all of a user's.
  revoke @2 (user :Text, sessionId :Text) -> (ended :UInt32);
  # In the order of their ids; `next` is the cursor of the page behind, empty on the last.
  users @3 (cursor :Text, limit :UInt32) -> (users :List(User), next :Text);
  # Of a user, by id or name.
  sessions @4 (user :Text) -> (sessions :List(SessionView));
  # In the order of their ids, as users.
  rooms @5 (cursor :Text, limit :UInt32) -> (rooms :List(RoomView), next :Text);
  promote @6 (username :Text) -> (user :User);
  setDisabled @7 (username :Text, disabled :Bool) -> ();
  recoveryUrl @8 (username :Text, resetSecondFactor :Bool) -> (url :Text);
  # Newest first, each the JSON object that the audit log over HTTP gives.
  audit @9 (since :UInt64, actor :Text, action :Text, cursor :Text) -> (entries :List(Text), next :Text);
  # Every event of a room, whoever is in it. The audit log has it.
  tail @10 (room :Text, start :Start, sink :Sink) -> (subscription :Subscription, head :UInt64, first :UInt64);
  # Where the first administrator is made, with a new token when the last has ended; `conflict` once there is one.
  setupUrl @11 () -> (url :Text);
  # Rooms as the lines of docs/EXPORT.md, whoever is in them. The operator's only; each room is in the audit log before
  # it begins.
  export @12 (all :Bool, rooms :List(Text)) -> (export :Export);
  # Takes rooms in, from such lines. The operator's only.
  import @13 (options :ImportOptions) -> (import :Import);
  # The configuration is read again. For the operator alone. With a fault nothing changes; otherwise every setting that says
  # something else than what is in force is in `changes`.
  reload @14 () -> (changes :List(SettingChange), faults :List(Text));
  # Where an event is: how it went out, to whom, and who has read it. As the JSON object that the same gives over HTTP. With
  # a username or an id of that user alone. The audit log has it.
  trace @15 (room :Text, seq :UInt64, user :Text) -> (trace :Text);
  # Has everything erased that a user, by id or name, has said: in one room, or with an empty one in all. It is noted
  # and carried out from then on, whatever becomes of the caller. For the operator.
  eraseMessages @16 (user :Text, room :Text) -> (erasure :Erasure);
  # Those that are under way, and those that were done of late, the newest first.
  erasures @17 () -> (erasures :List(Erasure));
}

# Rooms on their way out. Dropping it ends it.
interface Export {
  # The next lines, whole ones; none are left when there are none. `done` of `total` events have been given then.
  next @0 () -> (lines :Data, done :UInt64, total :UInt64);
}

# Rooms on their way in. Nobody sees anything of them before they are finished, and then all of them; dropped before that,
# nothing has come in.
interface Import {
  # The next lines, whole ones. What is wrong with one is told with its number, and ends the import.
  lines @0 (lines :Data) -> ();
  # There are no more lines.
  finish @1 () -> (report :ImportReport);
}

struct ImportOptions {
  # The id of the only room. Empty: its own.
  asId @0 :Text;
  # Rooms whose ids are taken get others.
  newIds @1 :Bool;
  # The username of somebody who will own every room. Empty: nobody.
  owner @2 :Text;
  # Members who have accounts here keep their roles; else they are members, or guests.
  withRoles @3 :Bool;
  # An account of the same name is the same person's.
  matchNames @4 :Bool;
}

struct ImportReport {
  rooms @0 :List(ImportedRoom);
  events @1 :UInt64;
  # Users of the lines who have accounts here, and those for whom placeholders were made.
  matched @2 :UInt32;
  placeholders @3 :UInt32;
}

struct ImportedRoom {
  # The room in the lines, and here.
  from @0 :Text;
  id @1 :Text;
  events @2 :UInt64;
  # Whether somebody who can sign in owns it.
  hasOwner @3 :Bool;
}

struct SettingChange {
  # Such as "tls.cert".
  key @0 :Text;
  # In force now. If not, it is after a restart.
  applied @1 :Bool;
}

struct Figure {
  name @0 :Text;
  value @1 :Float64;
  # "bytes", "s" and the like. Empty: a count.
  unit @2 :Text;
}

struct SessionView {
  id @0 :Text;
  userId @1 :Text;
  device @2 :Text;
  ip @3 :Text;
  createdAt @4 :UInt64;
  lastSeenAt @5 :UInt64;
}

struct Erasure {
  id @0 :UInt64;
  # Whose messages.
  userId @1 :Text;
  # In this room only. Empty: in all.
  room @2 :Text;
  # Who asked for it. Empty: the operator.
  by @3 :Text;
  requestedAt @4 :UInt64;
  # 0: it is under way.
  finishedAt @5 :UInt64;
  # So far.
  rooms @6 :UInt64;
  # Events that were changed so far.
  events @7 :UInt64;
}

struct RoomView {
  id @0 :Text;
  title @1 :Text;
  settings @2 :RoomSettings;
  first @3 :UInt64;
  head @4 :UInt64;
  members @5 :UInt32;
  createdAt @6 :UInt64;
}

# ---------------------------------------------------------------------------------------------------------------------
# The sub-protocol stack.v1.capnp: each binary WebSocket message is one ClientFrame, or one ServerFrame, unpacked. They
# mean what the frames of stack.v1.json mean.
# ---------------------------------------------------------------------------------------------------------------------

struct ClientFrame {
  # Whether an answer is wanted; `id` is then in it.
  hasId @0 :Bool;
  # At most 2^53 - 1.
  id @1 :UInt64;

  union {
    ping @2 :Void;
    auth :group { token @3 :Text; }
    subscribe :group { room @4 :Text; start @5 :Start; }
    unsubscribe :group { room @6 :Text; }
    send :group { room @7 :Text; message @8 :Message; }
    edit :group { room @9 :Text; seq @10 :UInt64; body @11 :Text; }
    redact :group { room @12 :Text; seq @13 :UInt64; reason @14 :Text; }
    react :group { room @15 :Text; seq @16 :UInt64; emoji @17 :Text; remove @18 :Bool; }
    join :group { room @19 :Text; }
    leave :group { room @20 :Text; }
    history :group { room @21 :Text; cursor @22 :Cursor; limit @23 :UInt32; }
    read :group { room @24 :Text; seq @25 :UInt64; }
    typing :group { room @26 :Text; on @27 :Bool; }
    presence :group { status @28 :Status; text @29 :Text; }
  }
}

struct ServerFrame {
  union {
    ok @0 :Ok;
    error :group { hasId @1 :Bool; id @2 :UInt64; problem @3 :Problem; }
    event @4 :Event;
    unsubscribed :group { room @5 :Text; reason @6 :Text; }
    gap :group { room @7 :Text; from @8 :UInt64; to @9 :UInt64; reason @10 :Text; }
    typing :group { room @11 :Text; userId @12 :Text; on @13 :Bool; }
    presence :group { room @14 :Text; userId @15 :Text; status @16 :Status; text @17 :Text; version @18 :UInt64; }
    read :group { room @19 :Text; userId @20 :Text; readSeq @21 :UInt64; }
    # "expiring" (with expiresAt) or "revoked".
    session :group { state @22 :Text; expiresAt @23 :UInt64; }
    drain :group { reconnectInMs @24 :UInt64; }
  }
}

struct Ok {
  id @0 :UInt64;
  union {
    done @1 :Void;
    place @2 :Place;
    page @3 :Page;
    signedIn :group { userId @4 :Text; sessionId @5 :Text; expiresAt @6 :UInt64; }
    subscribed :group { room @7 :Text; head @8 :UInt64; first @9 :UInt64; role @10 :Role; readSeq @11 :UInt64; }
    joined :group { room @12 :Text; role @13 :Role; }
    pong :group { ts @14 :UInt64; }
  }
}
