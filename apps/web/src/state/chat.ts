// Everything one signed-in person sees, fed by the SDK. Views read its stores and call its methods.

import type {
  ConnectionState,
  EndReason,
  LogEvent,
  Room,
  RoomSettings,
  StackClient,
  SubscribedPayload,
  User,
} from '../sdk';
import { People } from './people';
import { PresenceBook, TypingBook } from './presence';
import { Recurring } from './recurring';
import { RoomModel } from './room-model';
import { joinedRooms, Rooms } from './rooms';
import { Store } from './store';
import { Toasts } from './toasts';

/** The gateway takes 256 subscriptions on one connection. */
const MAX_FOLLOWED = 256;
/** Opened rooms kept in memory with their messages. */
const MAX_OPEN = 12;
/** The gateway's default, until it has told its own. */
const DEFAULT_BODY_BYTES = 16 * 1024;
const REFRESH_PEOPLE_MS = 200;
/** Without anybody at the page for this long, its user counts as away. */
const AWAY_AFTER_MS = 5 * 60_000;
/** No frame tells of a private room one was put into; the list is asked for again at this pace. */
const RELIST_MS = 60_000;

export class Chat {
  readonly client: StackClient;
  readonly me: Store<User>;
  readonly connection = new Store<ConnectionState>({ status: 'idle' });
  readonly rooms: Rooms;
  readonly people: People;
  readonly presence: PresenceBook;
  readonly typing = new TypingBook();
  readonly toasts = new Toasts();
  /** The longest text the gateway takes; a room may be stricter. */
  readonly bodyBytes = new Store(DEFAULT_BODY_BYTES);
  readonly #models = new Map<string, RoomModel>();
  readonly #refreshing = new Set<string>();
  readonly #onSignedOut: () => void;
  readonly #relisting = new Recurring(RELIST_MS, () => void this.loadRooms());
  #awayTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(client: StackClient, me: User, onSignedOut: () => void) {
    this.client = client;
    this.me = new Store(me);
    this.rooms = new Rooms(client.api, me.id);
    this.people = new People(client.api, me);
    this.presence = new PresenceBook(client.api);
    this.#onSignedOut = onSignedOut;
  }

  start(): void {
    const { realtime } = this.client;
    realtime.on('state', (state) => this.#connectionChanged(state));
    realtime.on('event', (event) => this.#event(event));
    realtime.on('subscribed', (answer) => this.#subscribed(answer));
    realtime.on('reset', ({ room }) => this.#models.get(room)?.reload());
    realtime.on('ended', ({ room, reason }) => this.#ended(room, reason));
    realtime.on('gap', (gap) => {
      this.rooms.advance(gap.room, gap.to);
      if (gap.reason === 'retention') this.#models.get(gap.room)?.timeline.forgetUntil(gap.to);
    });
    realtime.on('typing', (frame) => {
      if (frame.user_id !== this.me.get().id) this.typing.heard(frame);
    });
    realtime.on('presence', (frame) => this.presence.delta(frame));
    realtime.on('read', (frame) => {
      if (frame.user_id === this.me.get().id) this.rooms.read(frame.room, frame.read_seq);
    });
    document.addEventListener('visibilitychange', this.#visibilityChanged);
    realtime.start();
    this.#relisting.start();
    this.client.api.serverInfo().then(
      (info) => this.bodyBytes.set(info.limits.body_bytes),
      () => {},
    );
  }

  stop(): void {
    document.removeEventListener('visibilitychange', this.#visibilityChanged);
    clearTimeout(this.#awayTimer);
    this.#relisting.stop();
    this.typing.clear();
    this.client.realtime.stop();
  }

  /** Loads the list and follows every room in it, so that the counts are live. */
  async loadRooms(): Promise<void> {
    let added: Room[];
    try {
      added = await this.rooms.load();
    } catch {
      return;
    }
    for (const room of added) this.toasts.show(`${room.title} is now among your rooms.`);
    for (const room of joinedRooms(this.rooms.state.get()).slice(0, MAX_FOLLOWED)) {
      if (!this.client.realtime.isSubscribed(room.id))
        this.client.realtime.subscribe(room.id, { resume: false });
    }
  }

  /** The model of a room somebody looks at; loaded on first use. */
  open(id: string): RoomModel {
    let model = this.#models.get(id);
    if (model === undefined) {
      model = new RoomModel(id, this);
      void model.load();
      this.#closeOldest();
    }
    // Kept in order of use, so that the first one is the one that was left longest ago.
    this.#models.delete(id);
    this.#models.set(id, model);
    model.enter();
    this.#refreshPeople(id);
    return model;
  }

  async createRoom(body: { id: string; title: string; settings: Partial<RoomSettings> }): Promise<Room> {
    const room = await this.client.api.createRoom(body);
    this.rooms.put(room);
    return room;
  }

  async joinRoom(id: string): Promise<void> {
    await this.client.api.putMember(id, this.me.get().id, 'member');
    await this.rooms.reload(id);
  }

  async leaveRoom(id: string): Promise<void> {
    await this.client.api.deleteMember(id, this.me.get().id);
    this.#ended(id, 'left');
  }

  async deleteRoom(id: string): Promise<void> {
    await this.client.api.deleteRoom(id);
    this.#ended(id, 'deleted');
  }

  updateMe(user: User): void {
    this.me.set(user);
    this.people.put([user]);
  }

  #closeOldest(): void {
    if (this.#models.size < MAX_OPEN) return;
    for (const [id, model] of this.#models) {
      if (model.timeline.snapshot().pending.length > 0) continue;
      this.#models.delete(id);
      this.client.realtime.subscribe(id, { resume: false });
      return;
    }
  }

  #connectionChanged(state: ConnectionState): void {
    this.connection.set(state);
    if (state.status !== 'open') this.rooms.disconnected();
    if (state.status === 'open') {
      this.typing.clear();
      if (this.rooms.state.get().status !== 'loading') void this.loadRooms();
      for (const model of this.#models.values()) model.retryLoading();
    } else if (state.status === 'closed' && state.reason === 'signed_out') this.#onSignedOut();
  }

  #event(event: LogEvent): void {
    const { room, sender } = event.payload;
    this.rooms.event(event);
    this.people.need(sender);
    if (event.type === 'message') this.typing.stopped(room, sender);
    if (event.type === 'room') void this.rooms.reload(room).catch(() => {});
    if (event.type === 'member') this.#memberChanged(event.payload.room, event.payload.user_id);
    this.#models.get(room)?.event(event);
  }

  #memberChanged(room: string, user: string): void {
    if (this.#models.has(room)) this.#refreshPeopleSoon(room);
    if (user === this.me.get().id) void this.rooms.reload(room).catch(() => {});
  }

  /** The gateway's read cursor may be behind ours, when it was moved while there was no connection. */
  #subscribed(answer: SubscribedPayload): void {
    const id = answer.room;
    const before = this.rooms.get(id);
    this.rooms.subscribed(answer, this.client.realtime.cursor(id) ?? answer.head);
    const after = this.rooms.get(id);
    if (before !== null && after !== null && before.read_seq > 0 && this.#models.has(id)) {
      this.client.realtime.markRead(id, after.read_seq);
    }
    if (this.#models.has(id)) this.#refreshPeople(id);
  }

  /** Many may join at once, for example when a whole team follows a link; they are looked up together. */
  #refreshPeopleSoon(room: string): void {
    if (this.#refreshing.has(room)) return;
    this.#refreshing.add(room);
    setTimeout(() => {
      this.#refreshing.delete(room);
      this.#refreshPeople(room);
    }, REFRESH_PEOPLE_MS);
  }

  #refreshPeople(room: string): void {
    this.people.loadMembers(room).catch(() => {});
    if (this.people.bans.get().has(room)) this.people.loadBans(room).catch(() => {});
    this.presence.load(room).catch(() => {});
  }

  #ended(id: string, reason: EndReason): void {
    // One room too many to follow; it can be read all the same, only its count stands still.
    if (reason === 'refused') return;
    const room = this.rooms.get(id);
    this.client.realtime.unsubscribe(id);
    this.#models.delete(id);
    if (room === null) return;
    if (reason === 'left' && room.settings.public) this.rooms.left(id);
    else this.rooms.remove(id);
    const told: Partial<Record<EndReason, string>> = {
      removed: `You were removed from ${room.title}.`,
      banned: `You were banned from ${room.title}.`,
      deleted: `${room.title} was deleted.`,
      private: `${room.title} is now private.`,
    };
    const text = told[reason];
    if (text !== undefined) this.toasts.show(text);
  }

  readonly #visibilityChanged = (): void => {
    clearTimeout(this.#awayTimer);
    if (document.visibilityState === 'visible') {
      this.client.realtime.setPresence('online');
    } else this.#awayTimer = setTimeout(() => this.client.realtime.setPresence('away'), AWAY_AFTER_MS);
  };
}
