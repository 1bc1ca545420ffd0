// Who is writing right now.

import { useChat } from '../../app/context';
import { useSelect, useStore } from '../../app/hooks';
import { nameList } from '../../lib/format';
import styles from './chat.module.css';
import { NAMELESS } from './names';

const NOBODY: readonly string[] = [];

export function TypingLine({ room }: { room: string }) {
  const chat = useChat();
  const typing = useSelect(chat.typing.rooms, (rooms) => rooms.get(room) ?? NOBODY);
  const users = useStore(chat.people.users);
  const names = typing.map((id) => users.get(id)?.display_name ?? NAMELESS);
  return (
    <div className={styles.typing} role="status" data-testid="typing">
      {names.length > 0 && (
        <>
          <span className={styles.dots} aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          <span>
            <b>{nameList(names)}</b> {names.length === 1 ? 'is' : 'are'} typing
          </span>
        </>
      )}
    </div>
  );
}
