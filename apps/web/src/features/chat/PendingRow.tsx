// A message of one's own that has no place yet, or could not get one.

import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { clock } from '../../lib/format';
import type { PendingMessage } from '../../sdk';
import type { RoomModel } from '../../state/room-model';
import { sentence } from '../../state/toasts';
import { Avatar } from '../../ui/Avatar';
import { Icon } from '../../ui/Icon';
import { MessageBody } from './MessageBody';
import styles from './message.module.css';
import { Quote } from './Quote';

interface PendingRowProps {
  model: RoomModel;
  pending: PendingMessage;
  grouped: boolean;
  onGo(seq: number): void;
}

export function PendingRow({ model, pending, grouped, onGo }: PendingRowProps) {
  const chat = useChat();
  const me = useStore(chat.me);
  const connected = useStore(chat.connection).status === 'open';
  return (
    <article
      className={styles.row}
      data-row
      data-pending={pending.status}
      data-grouped={grouped || undefined}
      tabIndex={-1}
      aria-label={`${me.display_name}, not sent yet`}
    >
      {pending.replyTo !== null && <Quote model={model} seq={pending.replyTo} onGo={onGo} />}
      <div className={styles.main}>
        <div className={styles.gutter}>{!grouped && <Avatar id={me.id} name={me.display_name} />}</div>
        <div className={styles.content}>
          {!grouped && (
            <div className={styles.head}>
              <span className={styles.author}>{me.display_name}</span>
              <span className={styles.time}>{clock(pending.createdAt)}</span>
            </div>
          )}
          <MessageBody body={pending.body} />
          {pending.status === 'sending' && (
            <span className={styles.state}>
              <Icon name="clock" size={14} />
              {connected ? 'Sending' : 'Will be sent when you are back'}
            </span>
          )}
          {pending.status === 'failed' && (
            <span className={styles.failed} role="alert">
              <Icon name="alert" size={16} />
              <span>Not sent. {sentence(pending.error?.message ?? 'The server refused it')}</span>
              <button type="button" className={styles.textButton} onClick={() => model.retry(pending.key)}>
                Try again
              </button>
              <button
                type="button"
                className={styles.textButton}
                onClick={() => model.timeline.discard(pending.key)}
              >
                Discard
              </button>
            </span>
          )}
        </div>
      </div>
    </article>
  );
}
