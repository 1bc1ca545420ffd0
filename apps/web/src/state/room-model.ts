// One opened room: its timeline, loading of pages, drafts, sending, and where "new" begins.

import { type LogEvent, StackError, Timeline } from '../sdk';
import type { Chat } from './chat';
import { Store } from './store';

export interface RoomViewState {
  status: 'loading' | 'ready' | 'failed';
  error: StackError | null;
  loadingOlder: boolean;
  /** The "new" line stands after this `seq`. */
  dividerAfter: number | null;
  replyTo: number | null;
}

const PAGE = 60;
/** Old items beyond this many are let go while nobody looks at them; scrolling back loads them again. */
const KEEP = 400;
/** Told again at this pace while somebody types; the other side forgets after twice as long. */
const TYPING_EVERY_MS = 3_000;

export class RoomModel {
  readonly id: string;
  readonly timeline: Timeline;
  readonly view = new Store<RoomViewState>({
    status: 'loading',
    error: null,
    loadingOlder: false,
    dividerAfter: null,
    replyTo: null,
  });
  draft = '';
  readonly #chat: Chat;
  #attended = false;
  #typingToldAt = 0;

  constructor(id: string, chat: Chat) {
    this.id = id;
    this.#chat = chat;
    this.timeline = new Timeline(chat.me.get().id);
  }

  /** Loads the newest page and follows the room from there on. */
  async load(): Promise<void> {
    const { api, realtime } = this.#chat.client;
    this.#patch({ status: 'loading', error: null });
    try {
      const page = await api.messages(this.id, { limit: PAGE });
      this.timeline.addPage(page.events, page.first);
      realtime.subscribe(this.id, { after: page.events.at(-1)?.payload.seq ?? page.head });
      this.#patch({ status: 'ready' });
    } catch (error) {
      this.#patch({ status: 'failed', error: error instanceof StackError ? error : null });
    }
  }

  /** Loads what could not be loaded before. */
  retryLoading(): void {
    if (this.view.get().status === 'failed') void this.load();
  }

  /** Starts over, since what was shown no longer stands in the log. */
  reload(): void {
    this.timeline.clear();
    void this.load();
  }

  async loadOlder(): Promise<void> {
    const { oldest, hasOlder } = this.timeline.snapshot();
    if (this.view.get().loadingOlder || oldest === null || !hasOlder) return;
    this.#patch({ loadingOlder: true });
    try {
      const page = await this.#chat.client.api.messages(this.id, { before: oldest, limit: PAGE });
      this.timeline.addPage(page.events, page.events.length === 0 ? oldest : page.first);
    } catch {
      // The top of the list stays in view, so that scrolling tries again.
    } finally {
      this.#patch({ loadingOlder: false });
    }
  }

  event(event: LogEvent): void {
    if (this.view.get().status === 'loading' && this.timeline.snapshot().oldest === null) return;
    const others = event.type === 'message' && event.payload.sender !== this.#chat.me.get().id;
    if (others && !this.#attended) this.#divideBefore(event.payload.seq);
    this.timeline.add(event);
  }

  /** Somebody came to look at this room: "new" is what they have not read yet. */
  enter(): void {
    const room = this.#chat.rooms.get(this.id);
    const unread = room !== null && room.read_seq > 0 && room.unread.length > 0;
    this.#patch({ dividerAfter: unread ? room.read_seq : null });
  }

  /** Whether the newest message is before somebody's eyes. While it is, everything counts as read. */
  attend(attended: boolean): void {
    this.#attended = attended;
    if (attended) {
      this.timeline.trim(KEEP);
      this.markRead();
    }
  }

  /** Draws the line before the first message nobody saw; one that was read past is moved. */
  #divideBefore(seq: number): void {
    const { dividerAfter } = this.view.get();
    const read = this.#chat.rooms.get(this.id)?.read_seq ?? 0;
    if (dividerAfter === null || dividerAfter < read) this.#patch({ dividerAfter: seq - 1 });
  }

  markRead(): void {
    const { newest } = this.timeline.snapshot();
    const room = this.#chat.rooms.get(this.id);
    if (room === null || newest <= room.read_seq) return;
    this.#chat.rooms.read(this.id, newest);
    this.#chat.client.realtime.markRead(this.id, newest);
  }

  send(body: string): void {
    const { replyTo } = this.view.get();
    this.draft = '';
    this.#patch({ replyTo: null, dividerAfter: null });
    this.typing(false);
    this.#dispatch(body, replyTo, null);
  }

  /** Sends a failed message again under its old key. */
  retry(key: string): void {
    const pending = this.timeline.snapshot().pending.find((message) => message.key === key);
    if (pending !== undefined) this.#dispatch(pending.body, pending.replyTo, key);
  }

  #dispatch(body: string, replyTo: number | null, key: string | null): void {
    const sending = this.#chat.client.realtime.send(this.id, body, {
      ...(replyTo === null ? {} : { reply_to: replyTo }),
      ...(key === null ? {} : { key }),
    });
    this.timeline.addPending({ key: sending.key, body, replyTo, createdAt: Date.now() });
    sending.receipt.then(
      (receipt) => this.timeline.settle(sending.key, receipt),
      (error: StackError) => this.timeline.fail(sending.key, error),
    );
  }

  setReply(seq: number | null): void {
    this.#patch({ replyTo: seq });
  }

  /** Tells the others that something is being written, but not at every key. */
  typing(on: boolean): void {
    const now = Date.now();
    if (on ? now - this.#typingToldAt < TYPING_EVERY_MS : this.#typingToldAt === 0) return;
    this.#typingToldAt = on ? now : 0;
    this.#chat.client.realtime.typing(this.id, on);
  }

  #patch(change: Partial<RoomViewState>): void {
    this.view.update((view) => ({ ...view, ...change }));
  }
}
