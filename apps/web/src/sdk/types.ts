// The shapes that travel over HTTP and the socket, named as the gateway names them (snake_case, Unix ms).

/** A person as every other person sees them; `email` and `settings` only for oneself. */
export interface User {
  id: string;
  username: string;
  display_name: string;
  role: 'admin' | 'member';
  created_at: number;
  email?: string | null;
  settings?: Record<string, unknown>;
}

/** What somebody may do in one room, from most to least. */
export type RoomRole = 'owner' | 'moderator' | 'member' | 'guest';

/** The typed settings of a room. A 0 means: keep everything, the gateway's own limit, no pause. */
export interface RoomSettings {
  public: boolean;
  history: 'members' | 'joined';
  retention_days: number;
  /** Only the newest so many events are kept. */
  retention_messages: number;
  max_message_bytes: number;
  slow_mode_s: number;
  messages_per_10s: number;
  allow_guests: boolean;
}

/** A room as the caller sees it; `role` is null for a non-member. `head` is the newest `seq`. */
export interface Room {
  id: string;
  title: string;
  settings: RoomSettings;
  role: RoomRole | null;
  first: number;
  head: number;
  read_seq: number;
  created_at: number;
}

export interface Member {
  user: User;
  role: RoomRole;
  joined_at: number;
  /** When they were last connected; left out when nobody knows. */
  last_seen_at?: number;
}

/** Somebody who may not be in a room, until then or until it is lifted. */
export interface Ban {
  user_id: string;
  by: string;
  reason?: string;
  created_at: number;
  expires_at?: number;
}

export type PresenceStatus = 'online' | 'away' | 'busy' | 'offline';

export interface PresenceUser {
  user_id: string;
  status: PresenceStatus;
  text?: string;
  last_seen_at?: number;
}

export interface PresenceSnapshot {
  users: PresenceUser[];
  count: number;
  version: number;
}

/** What a gateway says about itself. */
export interface ServerInfo {
  version: string;
  commit: string;
  protocols: string[];
  limits: { body_bytes: number } & Record<string, number>;
}

/** One signed-in device of the caller. */
export interface DeviceSession {
  id: string;
  device: string;
  ip: string;
  created_at: number;
  last_seen_at: number;
  current: boolean;
}

/** How accounts are made on a server. */
export interface RegistrationInfo {
  mode: 'open' | 'invite' | 'closed';
  password: { min_chars: number };
  passkeys: boolean;
}

/** An identity provider that the server knows. */
export interface Provider {
  name: string;
  title: string;
  preset?: string;
}

/** An account elsewhere that signs one in here. */
export interface LinkedAccount {
  id: string;
  provider: string;
  title: string;
  email?: string | null;
  linked_at: number;
  last_used_at?: number | null;
}

export interface Passkey {
  id: string;
  name: string;
  created_at: number;
  last_used_at?: number | null;
  /** Whether it is also kept elsewhere, by a password manager. */
  backed_up: boolean;
  /** Set when it was seen in two places at once; it signs nobody in any more. */
  suspended_at?: number | null;
}

export interface SecondFactorState {
  enabled: boolean;
  confirmed_at?: number | null;
  recovery_codes_left: number;
}

/** Whether the server still waits for its first administrator, and whether they can have a passkey. */
export interface SetupInfo {
  open: boolean;
  passkeys: boolean;
  reason?: string;
}

export interface InviteLook {
  role: User['role'];
  expires_at: number;
  invited_by?: string | null;
}

/** An account as administrators see it. */
export interface AdminUser extends User {
  disabled: boolean;
  kind: 'person' | 'bot' | 'external';
  factors: { password: boolean; passkeys: number; links: number; totp: boolean };
  last_seen_at?: number | null;
}

export interface NewInvite {
  role?: User['role'];
  rooms?: { room: string; role: RoomRole }[];
  max_uses?: number;
  expires_in_s?: number;
  note?: string;
}

export interface Invite {
  id: string;
  role: User['role'];
  rooms: { room: string; role: RoomRole }[];
  note?: string | null;
  max_uses: number;
  uses: number;
  created_at: number;
  expires_at: number;
  revoked_at?: number | null;
  /** Whether an account can be made with it now. */
  open: boolean;
}

export type ApiScope = 'read' | 'send' | 'rooms' | 'presence' | 'chat_token' | 'admin';

/** A key that was not revoked. */
export interface ApiKey {
  id: string;
  name: string;
  scopes: ApiScope[];
  /** As whom it acts. */
  user?: User | null;
  created_at: number;
  expires_at?: number | null;
  last_used_at?: number | null;
}

export interface AuditQuery {
  before?: number;
  after?: number;
  actor?: string;
  action?: string;
  target?: string;
  limit?: number;
}

/** Something that was done, or tried. */
export interface AuditEntry {
  id: number;
  at: number;
  action: string;
  outcome: 'ok' | 'refused';
  /** A user id; absent for somebody unknown and for the machine's operator. */
  actor?: string | null;
  /** An id or a role. */
  target?: string | null;
  ip: string;
  session?: string | null;
}

export interface AuditPage {
  entries: AuditEntry[];
  next?: number | null;
}

/** Where a message is, as administrators see it. */
export interface MessageTrace {
  at: number;
  room: { id: string; title: string; first: number; head: number; members: number };
  message: {
    seq: number;
    state: 'stored' | 'redacted' | 'dropped';
    type: string | null;
    sender: TracedUser | null;
    ts: number | null;
    bytes: number | null;
  };
  /** How it went out; null when that is not remembered. */
  commit: {
    first: number;
    last: number;
    committed_at: number;
    /** Microseconds from the commit. */
    published_us: number;
    handed_us: number;
    readers: number;
    fell_behind: number;
  } | null;
  remembered_since: number;
  people_by_arrival: Partial<Record<Arrival, number>>;
  connections_by_state: Partial<Record<TracedConnection['state'], number>>;
  people: TracedPerson[];
  connections: TracedConnection[];
  closed: TracedClosed[];
  /** How many more there are than are listed. */
  not_listed: { people: number; connections: number; closed: number };
}

/** What became of a message for somebody. */
export type Arrival =
  | 'later'
  | 'missed'
  | 'behind'
  | 'on_its_way'
  | 'not_subscribed'
  | 'away'
  | 'not_theirs'
  | 'not_in_room'
  | 'at_edge'
  | 'handed'
  | 'read'
  | 'sent';

export interface TracedUser {
  id: string;
  username: string | null;
  display_name: string | null;
}

export interface TracedPerson {
  user: TracedUser;
  arrival: Arrival;
  role: RoomRole | null;
  read_seq: number;
  first: number;
  connections: number;
  subscriptions: number;
  last_seen_at: number | null;
}

interface TracedBy {
  id: string | null;
  way: 'socket' | 'edge' | 'local' | null;
  session: string | null;
  device: string | null;
  ip: string | null;
}

export interface TracedConnection {
  user: TracedUser;
  connection: TracedBy;
  state: 'behind' | 'on_its_way' | 'later' | 'at_edge' | 'handed';
  subscribed_at: number;
  from: number;
  cursor: number | null;
  behind_since: number | null;
  waiting_bytes: number;
}

export interface TracedClosed {
  user: TracedUser;
  connection: TracedBy;
  state: 'missed' | 'before' | 'later' | 'at_edge' | 'handed';
  subscribed_at: number;
  ended_at: number;
  from: number;
  cursor: number | null;
  reason: string | null;
  is_open: boolean;
  ending: { by: 'server'; code: number; reason: string } | { by: 'client'; code: number | null } | { by: 'nobody' } | null;
}

/** What every event in a room's log carries. `(room, seq)` is its identity. */
interface Logged {
  room: string;
  seq: number;
  ts: number;
  sender: string;
}

export interface MessagePayload extends Logged {
  body?: string;
  data?: unknown;
  key?: string;
  reply_to?: number;
  /** Set on a tombstone: the text is gone for good. */
  redacted?: boolean;
}

export interface EditedPayload extends Logged {
  target_seq: number;
  body: string;
}

export interface RedactedPayload extends Logged {
  target_seq: number;
  /** All that the sender had said was erased, and these events were changed for it. */
  targets?: number[];
  reason?: string;
}

export interface ReactedPayload extends Logged {
  target_seq: number;
  /** Absent after the reaction was erased. */
  emoji?: string;
  remove?: boolean;
}

export interface RoomPayload extends Logged {
  action: 'created' | 'changed';
}

export interface MemberPayload extends Logged {
  action: 'joined' | 'left' | 'removed' | 'banned' | 'unbanned' | 'muted' | 'unmuted' | 'role';
  user_id: string;
  role?: RoomRole;
}

/** An event of a room's numbered log, exactly the frame a subscriber gets. */
export type LogEvent =
  | { type: 'message'; payload: MessagePayload }
  | { type: 'edited'; payload: EditedPayload }
  | { type: 'redacted'; payload: RedactedPayload }
  | { type: 'reacted'; payload: ReactedPayload }
  | { type: 'room'; payload: RoomPayload }
  | { type: 'member'; payload: MemberPayload };

/** A page of a room's log, ascending by `seq`. */
export interface HistoryPage {
  events: LogEvent[];
  head: number;
  first: number;
}

export interface TypingPayload {
  room: string;
  user_id: string;
  on: boolean;
}

export interface PresencePayload {
  room: string;
  user_id: string;
  status: PresenceStatus;
  text?: string;
  version: number;
}

export interface ReadPayload {
  room: string;
  user_id: string;
  read_seq: number;
}

/** Events that cannot be had any more; the cursor moves past `to`. */
export interface GapPayload {
  room: string;
  from: number;
  to: number;
  reason: string;
}

export interface SubscribedPayload {
  room: string;
  head: number;
  first: number;
  role: RoomRole | null;
  read_seq: number;
}

/** The durable place of a message. */
export interface SendReceipt {
  room: string;
  seq: number;
  ts: number;
}

/** Any frame as it stands on the wire. */
export interface Frame {
  type: string;
  id?: number;
  payload: Record<string, unknown>;
}

const LOG_TYPES = new Set(['message', 'edited', 'redacted', 'reacted', 'room', 'member']);

/** Whether a frame belongs to a room's numbered log. */
export function isLogEvent(frame: { type: string }): frame is LogEvent {
  return LOG_TYPES.has(frame.type);
}

/** Five seconds of a gateway. */
export interface ServerSample {
  at: number;
  connections: number;
  /** Here and at edges. */
  sockets: number;
  /** Subscriptions that read from the log. */
  behind: number;
  events_per_s: number;
  deliveries_per_s: number;
  /** Null when there was no commit. */
  commit_p99_ms: number | null;
  /** Null when the file cannot be looked at. */
  storage_bytes: number | null;
  memory_bytes: number | null;
}

/** What a gateway does. */
export interface ServerStats {
  at: number;
  started_at: number;
  version: string;
  now: {
    connections: number;
    /** Here and at edges. */
    sockets: number;
    /** Those of them at edges. */
    relayed_sockets: number;
    rooms: number;
    subscriptions: number;
    behind: number;
    storage_bytes: number | null;
    cache_bytes: number | null;
    memory_bytes: number | null;
    open_files: number | null;
    threads: number | null;
  };
  /** Since the start. */
  totals: {
    commits: number;
    events: number;
    deliveries: number;
    catch_up_deliveries: number;
    fell_behind: number;
    log_lines_dropped: number;
  };
  step_s: number;
  /** The oldest first. */
  samples: ServerSample[];
}
