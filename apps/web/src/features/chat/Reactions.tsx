// The reactions under a message; a click adds or takes back one's own.

import { useChat } from '../../app/context';
import { nameList } from '../../lib/format';
import type { Reaction } from '../../sdk';
import styles from './message.module.css';
import { emojiName } from './emoji';
import { nameOf } from './names';

interface ReactionsProps {
  reactions: readonly Reaction[];
  reachable: boolean;
  disabled: boolean;
  onToggle(emoji: string, on: boolean): void;
}

export function Reactions({ reactions, reachable, disabled, onToggle }: ReactionsProps) {
  const chat = useChat();
  const me = chat.me.get().id;
  if (reactions.length === 0) return null;
  return (
    <ul className={styles.reactions} aria-label="Reactions">
      {reactions.map(({ emoji, users }) => {
        const own = users.includes(me);
        const who = nameList(
          users.map((user) => nameOf(chat, user)),
          8,
        );
        return (
          <li key={emoji}>
            <button
              type="button"
              className={styles.reaction}
              aria-pressed={own}
              aria-label={`${emojiName(emoji)}, ${users.length}, by ${who}`}
              title={`${who} reacted with ${emojiName(emoji)}`}
              tabIndex={reachable ? 0 : -1}
              disabled={disabled}
              onClick={() => onToggle(emoji, !own)}
            >
              <span aria-hidden="true">{emoji}</span>
              <span aria-hidden="true" className={styles.count}>
                {users.length}
              </span>
            </button>
          </li>
        );
      })}
    </ul>
  );
}
