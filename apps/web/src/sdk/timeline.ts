// What a room looks like, folded from its log: messages with their edits, redactions and reactions, notes
// about members and the room, and one's own messages that have no place yet.
//
// Invariants: the result does not depend on the order in which pages and live events arrive; an event is
// folded once; a pending message and its event never show side by side. Messages that did not change keep
// their identity, so that a view can compare by reference.

import type { StackError } from './errors';
import type { LogEvent, MemberPayload, MessagePayload, RoomPayload, SendReceipt } from './types';

export interface Reaction {
  emoji: string;
  /** Who reacted, in the order they did. */
  users: readonly string[];
}

export interface TimelineMessage {
  kind: 'message';
  seq: number;
  ts: number;
  sender: string;
  body: string;
  key: string | null;
  replyTo: number | null;
  editedAt: number | null;
  redacted: boolean;
  reactions: readonly Reaction[];
}

/** A line about the room itself, such as somebody joining. */
export interface TimelineNote {
  kind: 'note';
  seq: number;
  ts: number;
  event: { type: 'member'; payload: MemberPayload } | { type: 'room'; payload: RoomPayload };
}

export type TimelineItem = TimelineMessage | TimelineNote;

/** `sent` has a durable place but its event has not come yet. */
export type PendingStatus = 'sending' | 'sent' | 'failed';

export interface PendingMessage {
  kind: 'pending';
  key: string;
  body: string;
  replyTo: number | null;
  createdAt: number;
  status: PendingStatus;
  seq: number | null;
  error: StackError | null;
}

export interface TimelineState {
  items: readonly TimelineItem[];
  pending: readonly PendingMessage[];
  /** The lowest `seq` that was loaded, or null before the first page. */
  oldest: number | null;
  /** The highest `seq` that was seen. */
  newest: number;
  /** Whether the log holds more before `oldest`. */
  hasOlder: boolean;
}

interface ReactionMark {
  seq: number;
  on: boolean;
  user: string;
  emoji: string;
}

/** All that later events say about one message; kept apart, since they may be known before the message is. */
interface Amendments {
  edit: { seq: number; ts: number; body: string } | null;
  redacted: boolean;
  reactions: Map<string, ReactionMark>;
}

export class Timeline {
  readonly #ownId: string;
  readonly #originals = new Map<number, MessagePayload>();
  readonly #amendments = new Map<number, Amendments>();
  readonly #items = new Map<number, TimelineItem>();
  readonly #seen = new Set<number>();
  /** Events that were erased. A page may hold them as they were before, when the erasure came while it was on its way. */
  readonly #erased = new Set<number>();
  readonly #listeners = new Set<() => void>();
  #pending: readonly PendingMessage[] = [];
  #oldest: number | null = null;
  #newest = 0;
  #first = 1;
  #state: TimelineState | null = null;

  /** @param ownId the id of the user who sends through this client */
  constructor(ownId: string) {
    this.#ownId = ownId;
  }

  /** The current state; the same object until something changes. */
  readonly snapshot = (): TimelineState => {
    this.#state ??= {
      items: [...this.#items.values()].sort((a, b) => a.seq - b.seq),
      pending: this.#pending,
      oldest: this.#oldest,
      newest: this.#newest,
      hasOlder: this.#oldest !== null && this.#oldest > this.#first,
    };
    return this.#state;
  };

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  };

  /** Adds a page of history. Pages are contiguous with what is there already. */
  addPage(events: readonly LogEvent[], first: number): void {
    this.#first = first;
    const lowest = events[0]?.payload.seq ?? first;
    this.#oldest = Math.min(this.#oldest ?? lowest, lowest);
    for (const event of events) this.#fold(event);
    this.#changed();
  }

  /** Adds a live event. */
  add(event: LogEvent): void {
    this.#oldest ??= event.payload.seq;
    this.#fold(event);
    this.#changed();
  }

  /** Everything up to `seq` is gone from the log. */
  forgetUntil(seq: number): void {
    this.#first = Math.max(this.#first, seq + 1);
    for (const known of [...this.#seen]) if (known <= seq) this.#drop(known);
    this.#oldest = this.#oldest === null ? null : Math.max(this.#oldest, seq + 1);
    this.#newest = Math.max(this.#newest, seq);
    this.#changed();
  }

  /** Keeps about the newest `count` items in memory; the rest can be loaded again. */
  trim(count: number): void {
    if (this.#items.size <= count * 2) return;
    const kept = [...this.#items.keys()].sort((a, b) => a - b).slice(-count);
    const oldest = kept[0] as number;
    for (const seq of [...this.#seen]) if (seq < oldest) this.#drop(seq);
    this.#oldest = oldest;
    this.#changed();
  }

  /** Forgets the log, but not what has still to be sent. */
  clear(): void {
    for (const map of [this.#originals, this.#amendments, this.#items, this.#seen, this.#erased]) map.clear();
    this.#oldest = null;
    this.#newest = 0;
    this.#changed();
  }

  message(seq: number): TimelineMessage | null {
    const item = this.#items.get(seq);
    return item?.kind === 'message' ? item : null;
  }

  /** Shows a message of one's own before it has a place; again with the same key, it is being retried. */
  addPending(message: { key: string; body: string; replyTo: number | null; createdAt: number }): void {
    if (this.#hasOwn(message.key)) return;
    const others = this.#pending.filter((pending) => pending.key !== message.key);
    this.#pending = [...others, { ...message, kind: 'pending', status: 'sending', seq: null, error: null }];
    this.#changed();
  }

  /** The gateway has given a message its place. Its event may have come before or may come later. */
  settle(key: string, receipt: SendReceipt): void {
    if (this.#items.has(receipt.seq)) this.#removePending(key);
    else this.#updatePending(key, { status: 'sent', seq: receipt.seq, error: null });
  }

  /** The gateway has refused a message for good. */
  fail(key: string, error: StackError): void {
    this.#updatePending(key, { status: 'failed', error });
  }

  /** Takes a failed message away. */
  discard(key: string): void {
    this.#removePending(key);
  }

  #hasOwn(key: string): boolean {
    for (const original of this.#originals.values()) {
      if (original.key === key && original.sender === this.#ownId) return true;
    }
    return false;
  }

  #removePending(key: string): void {
    const left = this.#pending.filter((pending) => pending.key !== key);
    if (left.length === this.#pending.length) return;
    this.#pending = left;
    this.#changed();
  }

  #updatePending(key: string, change: Partial<PendingMessage>): void {
    this.#pending = this.#pending.map((pending) =>
      pending.key === key ? { ...pending, ...change } : pending,
    );
    this.#changed();
  }

  #fold(event: LogEvent): void {
    const { seq } = event.payload;
    if (this.#seen.has(seq)) return;
    this.#seen.add(seq);
    this.#newest = Math.max(this.#newest, seq);
    if (event.type === 'message') this.#foldMessage(event.payload);
    else if (event.type === 'member' || event.type === 'room') {
      this.#items.set(seq, { kind: 'note', seq, ts: event.payload.ts, event });
    } else this.#amend(event);
  }

  #foldMessage(payload: MessagePayload): void {
    this.#originals.set(payload.seq, payload);
    this.#build(payload.seq);
    this.#pending = this.#pending.filter(
      (pending) =>
        pending.seq !== payload.seq && !(pending.key === payload.key && payload.sender === this.#ownId),
    );
  }

  #amend(event: Extract<LogEvent, { type: 'edited' | 'redacted' | 'reacted' }>): void {
    const { target_seq: target, seq } = event.payload;
    if (event.type === 'redacted' && event.payload.targets !== undefined) {
      this.#erase(event.payload.targets);
      return;
    }
    const amendments = this.#amendmentsOf(target);
    if (event.type === 'redacted') amendments.redacted = true;
    else if (this.#erased.has(seq)) return;
    else if (event.type === 'edited') {
      const { ts, body } = event.payload;
      if ((amendments.edit?.seq ?? 0) < seq) amendments.edit = { seq, ts, body };
    } else {
      const { emoji, sender: user, remove } = event.payload;
      if (emoji === undefined) return;
      const id = `${user} ${emoji}`;
      if ((amendments.reactions.get(id)?.seq ?? 0) < seq) {
        amendments.reactions.set(id, { seq, on: remove !== true, user, emoji });
      }
    }
    if (this.#originals.has(target)) this.#build(target);
  }

  #amendmentsOf(target: number): Amendments {
    const known = this.#amendments.get(target);
    if (known !== undefined) return known;
    const amendments: Amendments = { edit: null, redacted: false, reactions: new Map() };
    this.#amendments.set(target, amendments);
    return amendments;
  }

  /** What these events said is gone: messages are tombstones, and reactions were never made. */
  #erase(targets: readonly number[]): void {
    for (const target of targets) {
      this.#erased.add(target);
      this.#amendmentsOf(target).redacted = true;
      if (this.#originals.has(target)) this.#build(target);
    }
    for (const [seq, amendments] of this.#amendments) {
      const { reactions } = amendments;
      const before = reactions.size;
      for (const [id, mark] of reactions) if (this.#erased.has(mark.seq)) reactions.delete(id);
      if (reactions.size < before && this.#originals.has(seq)) this.#build(seq);
    }
  }

  #build(seq: number): void {
    const original = this.#originals.get(seq) as MessagePayload;
    const amendments = this.#amendments.get(seq);
    const redacted = original.redacted === true || amendments?.redacted === true;
    const edit = redacted ? null : (amendments?.edit ?? null);
    this.#items.set(seq, {
      kind: 'message',
      seq,
      ts: original.ts,
      sender: original.sender,
      body: redacted ? '' : (edit?.body ?? original.body ?? ''),
      key: original.key ?? null,
      replyTo: redacted ? null : (original.reply_to ?? null),
      editedAt: edit?.ts ?? null,
      redacted,
      reactions: redacted ? [] : foldReactions(amendments),
    });
  }

  /** Forgets one event. Amendments stay: newer events made them, and those are not read again with an older page. */
  #drop(seq: number): void {
    this.#items.delete(seq);
    this.#originals.delete(seq);
    this.#seen.delete(seq);
  }

  #changed(): void {
    this.#state = null;
    for (const listener of [...this.#listeners]) listener();
  }
}

function foldReactions(amendments: Amendments | undefined): Reaction[] {
  const marks = [...(amendments?.reactions.values() ?? [])].filter((mark) => mark.on);
  const byEmoji = new Map<string, string[]>();
  for (const mark of marks.sort((a, b) => a.seq - b.seq)) {
    const users = byEmoji.get(mark.emoji) ?? [];
    users.push(mark.user);
    byEmoji.set(mark.emoji, users);
  }
  return [...byEmoji].map(([emoji, users]) => ({ emoji, users }));
}
