// A grid of emoji in a popover.

import type { RefObject } from 'react';
import { Popover } from '../../ui/Popover';
import styles from './chat.module.css';
import { EMOJI } from './emoji';

interface EmojiPickerProps {
  anchor: RefObject<HTMLElement | null>;
  onPick(emoji: string): void;
  onClose(): void;
}

export function EmojiPicker({ anchor, onPick, onClose }: EmojiPickerProps) {
  return (
    <Popover anchor={anchor} label="Choose an emoji" onClose={onClose}>
      <div className={styles.emojiGrid}>
        {EMOJI.map((emoji) => (
          <button
            key={emoji.char}
            type="button"
            className={styles.emoji}
            aria-label={emoji.name}
            title={emoji.name}
            onClick={() => {
              onPick(emoji.char);
              onClose();
              anchor.current?.focus();
            }}
          >
            {emoji.char}
          </button>
        ))}
      </div>
    </Popover>
  );
}
