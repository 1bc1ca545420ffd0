// The message that is being answered, in one line, and the way back to it.

import { useSelect, useTimeline } from '../../app/hooks';
import { useChat } from '../../app/context';
import type { RoomModel } from '../../state/room-model';
import { Avatar } from '../../ui/Avatar';
import styles from './message.module.css';
import { NAMELESS } from './names';

export function Quote({ model, seq, onGo }: { model: RoomModel; seq: number; onGo(seq: number): void }) {
  const chat = useChat();
  useTimeline(model.timeline);
  const message = model.timeline.message(seq);
  const name = useSelect(
    chat.people.users,
    (users) => (message && users.get(message.sender)?.display_name) ?? NAMELESS,
  );
  return (
    <button type="button" className={styles.quote} onClick={() => onGo(seq)} tabIndex={-1}>
      <span className="visually-hidden">In reply to</span>
      {message === null ? (
        <span className={styles.quoteText}>an earlier message</span>
      ) : (
        <>
          <Avatar id={message.sender} name={name} size="xs" />
          <span className={styles.quoteName}>{name}</span>
          <span className={styles.quoteText}>{message.redacted ? 'Message deleted' : message.body}</span>
        </>
      )}
    </button>
  );
}
