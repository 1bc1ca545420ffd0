// One message: who, when, what, and what people think of it.

import { memo } from 'react';
import { clock, longTime } from '../../lib/format';
import type { TimelineMessage } from '../../sdk';
import type { RoomModel } from '../../state/room-model';
import { Avatar } from '../../ui/Avatar';
import { InlineEditor } from './InlineEditor';
import { MessageActions } from './MessageActions';
import { MessageBody } from './MessageBody';
import styles from './message.module.css';
import { useName } from './names';
import { Quote } from './Quote';
import { Reactions } from './Reactions';

/** What a row asks of the list around it; one object for all rows, so that they stay the same. */
export interface RowCalls {
  focus(seq: number): void;
  go(seq: number): void;
  react(seq: number, emoji: string, on: boolean): void;
  reply(seq: number): void;
  startEdit(seq: number): void;
  stopEdit(): void;
  saveEdit(seq: number, body: string): Promise<void>;
  remove(seq: number): void;
  /** For administrators alone. */
  trace: ((seq: number) => void) | null;
}

interface MessageRowProps {
  model: RoomModel;
  message: TimelineMessage;
  grouped: boolean;
  own: boolean;
  canSend: boolean;
  canDelete: boolean;
  active: boolean;
  editing: boolean;
  calls: RowCalls;
}

export const MessageRow = memo(function MessageRow(props: MessageRowProps) {
  const { model, message, grouped, own, canSend, canDelete, active, editing, calls } = props;
  const name = useName(message.sender);
  const { seq } = message;
  const usable = canSend && !message.redacted;
  const keys = (event: React.KeyboardEvent) => {
    if (event.target !== event.currentTarget || !usable || event.metaKey || event.ctrlKey || event.altKey)
      return;
    if (event.key === 'r') calls.reply(seq);
    else if (event.key === 'e' && own) calls.startEdit(seq);
    else if (event.key === 'Delete' && canDelete) calls.remove(seq);
    else return;
    event.preventDefault();
  };
  return (
    <article
      className={styles.row}
      data-row
      data-seq={seq}
      data-grouped={grouped || undefined}
      data-editing={editing || undefined}
      tabIndex={-1}
      aria-label={`${name}, ${clock(message.ts)}`}
      onFocus={() => calls.focus(seq)}
      onKeyDown={keys}
      onPointerUp={(event) => {
        const plain = !(event.target as Element).closest('a, button, textarea');
        if (event.pointerType === 'touch' && plain) event.currentTarget.focus({ preventScroll: true });
      }}
    >
      {message.replyTo !== null && <Quote model={model} seq={message.replyTo} onGo={calls.go} />}
      <div className={styles.main}>
        <div className={styles.gutter}>
          {grouped ? (
            <time className={styles.sideTime} dateTime={new Date(message.ts).toISOString()}>
              {clock(message.ts)}
            </time>
          ) : (
            <Avatar id={message.sender} name={name} />
          )}
        </div>
        <div className={styles.content}>
          {!grouped && (
            <div className={styles.head}>
              <span className={styles.author}>{name}</span>
              <time
                className={styles.time}
                dateTime={new Date(message.ts).toISOString()}
                title={longTime(message.ts)}
              >
                {clock(message.ts)}
              </time>
            </div>
          )}
          {editing ? (
            <InlineEditor
              body={message.body}
              onSave={(body) => calls.saveEdit(seq, body)}
              onCancel={calls.stopEdit}
            />
          ) : message.redacted ? (
            <p className={styles.gone}>Message deleted</p>
          ) : (
            <MessageBody body={message.body} after={<EditedMark at={message.editedAt} />} />
          )}
          <Reactions
            reactions={message.reactions}
            reachable={active}
            disabled={!usable}
            onToggle={(emoji, on) => calls.react(seq, emoji, on)}
          />
        </div>
      </div>
      {usable && !editing && (
        <MessageActions
          canEdit={own}
          canDelete={canDelete}
          onReact={(emoji) => calls.react(seq, emoji, true)}
          onReply={() => calls.reply(seq)}
          onEdit={() => calls.startEdit(seq)}
          onDelete={() => calls.remove(seq)}
          onTrace={calls.trace && (() => calls.trace?.(seq))}
        />
      )}
    </article>
  );
});

const EditedMark = memo(function EditedMark({ at }: { at: number | null }) {
  if (at === null) return null;
  return (
    <span className={styles.edited} title={longTime(at)}>
      edited
    </span>
  );
});
