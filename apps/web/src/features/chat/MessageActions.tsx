// What can be done with a message, shown when it is pointed at or has the focus.

import { useRef, useState } from 'react';
import { IconButton } from '../../ui/Button';
import { EmojiPicker } from './EmojiPicker';
import { QUICK } from './emoji';
import styles from './message.module.css';

interface MessageActionsProps {
  canEdit: boolean;
  canDelete: boolean;
  onReact(emoji: string): void;
  onReply(): void;
  onEdit(): void;
  onDelete(): void;
  /** For administrators alone. */
  onTrace: (() => void) | null;
}

export function MessageActions({
  canEdit,
  canDelete,
  onReact,
  onReply,
  onEdit,
  onDelete,
  onTrace,
}: MessageActionsProps) {
  const [picking, setPicking] = useState(false);
  const anchor = useRef<HTMLButtonElement>(null);
  return (
    <div
      className={styles.actions}
      role="toolbar"
      aria-label="Message actions"
      data-open={picking || undefined}
    >
      {QUICK.map((emoji) => (
        <button
          key={emoji.char}
          type="button"
          className={styles.quick}
          aria-label={`React with ${emoji.name}`}
          onClick={() => onReact(emoji.char)}
        >
          {emoji.char}
        </button>
      ))}
      <IconButton
        ref={anchor}
        icon="smile"
        label="Add reaction"
        size="s"
        aria-expanded={picking}
        onClick={() => setPicking(!picking)}
      />
      <IconButton icon="reply" label="Reply" size="s" onClick={onReply} />
      {canEdit && <IconButton icon="pencil" label="Edit" size="s" onClick={onEdit} />}
      {canDelete && <IconButton icon="trash" label="Delete" size="s" onClick={onDelete} />}
      {onTrace && <IconButton icon="compass" label="Where did it go?" size="s" onClick={onTrace} />}
      {picking && <EmojiPicker anchor={anchor} onPick={onReact} onClose={() => setPicking(false)} />}
    </div>
  );
}
