// The conversation: a log that can be scrolled back to the beginning and walked with the arrow keys.

import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { useStore, useTimeline } from '../../app/hooks';
import { navigate, traced } from '../../app/router';
import { dayName } from '../../lib/format';
import type { Room } from '../../sdk';
import type { RoomModel } from '../../state/room-model';
import { Button } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Empty, Spinner } from '../../ui/Misc';
import styles from './chat.module.css';
import { MessageRow, type RowCalls } from './MessageRow';
import { NoteRow } from './NoteRow';
import { PendingRow } from './PendingRow';
import { buildRows } from './rows';
import { useAttention } from './useAttention';
import { useScroll } from './useScroll';

interface MessageListProps {
  room: Room;
  model: RoomModel;
  editing: number | null;
  onEdit(seq: number | null): void;
  onReply(seq: number): void;
  /** Grows when something of one's own was sent: then the end comes into view. */
  sent: number;
}

export function MessageList({ room, model, editing, onEdit, onReply, sent }: MessageListProps) {
  const chat = useChat();
  const me = useStore(chat.me).id;
  const state = useTimeline(model.timeline);
  const view = useStore(model.view);
  const rows = useMemo(() => buildRows(state, view.dividerAfter, me), [state, view.dividerAfter, me]);
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState<number | null>(null);
  const [removing, setRemoving] = useState<number | null>(null);
  const loadOlder = useCallback(() => void model.loadOlder(), [model]);
  const { atEnd, onScroll, toEnd } = useScroll({
    scroller,
    content,
    rows,
    oldest: state.oldest,
    onNearTop: loadOlder,
  });
  useAttention(model, atEnd, state.newest);
  const unseen = useUnseen(model, atEnd, me);

  useEffect(() => {
    if (sent > 0) toEnd();
  }, [sent, toEnd]);

  const go = useCallback(
    async (seq: number) => {
      while (model.timeline.message(seq) === null && model.timeline.snapshot().hasOlder) {
        const { oldest } = model.timeline.snapshot();
        await model.loadOlder();
        if (model.timeline.snapshot().oldest === oldest) return;
      }
      requestAnimationFrame(() =>
        requestAnimationFrame(() => {
          const row = scroller.current?.querySelector<HTMLElement>(`[data-seq="${seq}"]`);
          row?.scrollIntoView({ block: 'center' });
          row?.focus({ preventScroll: true });
        }),
      );
    },
    [model],
  );

  const admin = useStore(chat.me).role === 'admin';
  const calls = useMemo<RowCalls>(() => {
    const { realtime } = chat.client;
    return {
      focus: setActive,
      go: (seq) => void go(seq),
      react: (seq, emoji, on) => void realtime.react(room.id, seq, emoji, !on).catch(chat.toasts.failed),
      reply: onReply,
      startEdit: onEdit,
      stopEdit: () => onEdit(null),
      // The editor stays until the change stands, so that nothing is lost without a connection.
      saveEdit: (seq, body) =>
        realtime.edit(room.id, seq, body).then(
          () => onEdit(null),
          (error: unknown) => chat.toasts.failed(error),
        ),
      remove: setRemoving,
      trace: admin ? (seq) => navigate(traced(room.id, seq)) : null,
    };
  }, [chat, room.id, go, onReply, onEdit, admin]);

  const walk = (event: React.KeyboardEvent) => {
    const step = { ArrowUp: -1, ArrowDown: 1, Home: Number.NEGATIVE_INFINITY, End: Number.POSITIVE_INFINITY }[
      event.key
    ];
    const target = event.target as HTMLElement;
    const onRow = target === scroller.current || target.hasAttribute('data-row');
    if (step === undefined || !onRow) return;
    const all = [...(content.current?.querySelectorAll<HTMLElement>('[data-row]') ?? [])];
    const from = all.indexOf(target);
    const next = from < 0 ? all.length - 1 : Math.min(Math.max(0, from + step), all.length - 1);
    event.preventDefault();
    all[next]?.focus();
  };

  const moderates = room.role === 'owner' || room.role === 'moderator';
  const canSend = room.role !== null && room.role !== 'guest';
  return (
    <div className={styles.listFrame}>
      <div
        ref={scroller}
        className={styles.list}
        role="log"
        aria-label={`Messages in ${room.title}`}
        aria-busy={view.status === 'loading'}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reachable by keyboard
        tabIndex={0}
        onScroll={onScroll}
        onKeyDown={walk}
      >
        <div ref={content} className={styles.listContent}>
          {view.status === 'failed' && state.oldest === null && (
            <Empty icon="alert" title="The messages could not be loaded">
              <Button onClick={() => void model.load()}>Try again</Button>
            </Empty>
          )}
          {view.status === 'loading' && state.oldest === null && <Spinner label="Loading messages" />}
          {view.loadingOlder && <Spinner label="Loading older messages" />}
          {state.oldest !== null && !state.hasOlder && (
            <header className={styles.beginning}>
              <span className={styles.beginningIcon}>
                <Icon name={room.settings.public ? 'hash' : 'lock'} size={24} />
              </span>
              <h2>{room.title}</h2>
              <p>
                {room.first > 1
                  ? 'Older messages have been cleared away.'
                  : 'This is where the conversation begins.'}
              </p>
            </header>
          )}
          {rows.map((row) => {
            switch (row.kind) {
              case 'day':
                return (
                  <div key={row.key} className={styles.day}>
                    <span>{dayName(row.ts)}</span>
                  </div>
                );
              case 'new':
                return (
                  <div key={row.key} className={styles.newLine} data-new>
                    <span>New</span>
                  </div>
                );
              case 'note':
                return <NoteRow key={row.key} note={row.note} />;
              case 'pending':
                return (
                  <PendingRow
                    key={row.key}
                    model={model}
                    pending={row.pending}
                    grouped={row.grouped}
                    onGo={calls.go}
                  />
                );
              default:
                return (
                  <MessageRow
                    key={row.key}
                    model={model}
                    message={row.message}
                    grouped={row.grouped}
                    own={row.message.sender === me}
                    canSend={canSend}
                    canDelete={moderates || row.message.sender === me}
                    active={active === row.message.seq}
                    editing={editing === row.message.seq}
                    calls={calls}
                  />
                );
            }
          })}
        </div>
      </div>
      {!atEnd && state.oldest !== null && (
        <button type="button" className={styles.jump} onClick={toEnd}>
          <Icon name="down" size={16} />
          {unseen > 0 ? `${unseen} new ${unseen === 1 ? 'message' : 'messages'}` : 'Jump to latest'}
        </button>
      )}
      {removing !== null && (
        <Confirm
          title="Delete this message?"
          text="Its text will be gone for everyone, also from history."
          action="Delete"
          onConfirm={() => void chat.client.realtime.redact(room.id, removing).catch(chat.toasts.failed)}
          onClose={() => setRemoving(null)}
        />
      )}
    </div>
  );
}

/** Messages of others that came while the end was out of view. */
function useUnseen(model: RoomModel, atEnd: boolean, me: string): number {
  const { items, newest } = useTimeline(model.timeline);
  const [seen, setSeen] = useState(newest);
  useEffect(() => {
    if (atEnd) setSeen(newest);
  }, [atEnd, newest]);
  if (atEnd) return 0;
  return items.filter((item) => item.kind === 'message' && item.seq > seen && item.sender !== me).length;
}
