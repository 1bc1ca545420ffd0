// A grid of emoji in a popover.

import type { RefObject } from 'react';
import { Popover } from '../../ui/Popover';
import styles from './chat.module.css';
import { EMOJI } from './emoji';

interface EmojiPickerProps {
  anchor: RefObject<HTMLElement | null>;
  /** Which edge of its button the picker begins at. */
  align?: 'start' | 'end';
  onPick(emoji: string): void;
  onClose(): void;
}

export function EmojiPicker({ anchor, align = 'end', onPick, onClose }: EmojiPickerProps) {
  return (
    <Popover anchor={anchor} align={align} label="Choose an emoji" onClose={onClose}>
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
