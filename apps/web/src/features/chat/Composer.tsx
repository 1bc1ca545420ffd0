// Where messages are written. Enter sends, Shift+Enter starts a line, Up edits the last one, Esc lets go of a reply.

import { useEffect, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { useMedia, useStore } from '../../app/hooks';
import type { Room } from '../../sdk';
import type { RoomModel } from '../../state/room-model';
import { IconButton } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import styles from './chat.module.css';
import { EmojiPicker } from './EmojiPicker';
import { useName } from './names';
import { useAutoGrow } from './useAutoGrow';

interface ComposerProps {
  room: Room;
  model: RoomModel;
  onSent(): void;
  onEditLast(): void;
}

/** From here on it is worth saying how much room is left. */
const WARN_BYTES = 500;

export function Composer({ room, model, onSent, onEditLast }: ComposerProps) {
  const chat = useChat();
  const [text, setText] = useState(model.draft);
  const [picking, setPicking] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const emojiButton = useRef<HTMLButtonElement>(null);
  const { replyTo } = useStore(model.view);
  const bodyBytes = useStore(chat.bodyBytes);
  const fine = useMedia('(pointer: fine)');
  useAutoGrow(field, text);

  useEffect(() => {
    // On a phone this would put the keyboard over what one came to read.
    if (fine) field.current?.focus();
  }, [fine]);
  useEffect(() => {
    if (replyTo !== null) field.current?.focus();
  }, [replyTo]);
  useEffect(() => () => model.typing(false), [model]);

  const most =
    room.settings.max_message_bytes === 0 ? bodyBytes : Math.min(bodyBytes, room.settings.max_message_bytes);
  const left = most - new TextEncoder().encode(text.trim()).length;
  const sendable = text.trim() !== '' && left >= 0;

  const change = (next: string) => {
    setText(next);
    model.draft = next;
    model.typing(next.trim() !== '');
  };
  const send = () => {
    if (!sendable) return;
    model.send(text.trim());
    setText('');
    onSent();
    field.current?.focus();
  };
  const insert = (emoji: string) => {
    const at = field.current?.selectionEnd ?? text.length;
    change(text.slice(0, at) + emoji + text.slice(at));
    requestAnimationFrame(() => {
      field.current?.focus();
      field.current?.setSelectionRange(at + emoji.length, at + emoji.length);
    });
  };
  const keys = (event: React.KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      send();
    } else if (event.key === 'ArrowUp' && text === '') {
      event.preventDefault();
      onEditLast();
    } else if (event.key === 'Escape' && replyTo !== null) {
      model.setReply(null);
    }
  };
  return (
    <form
      className={styles.composer}
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {replyTo !== null && <ReplyBar model={model} seq={replyTo} />}
      <div className={styles.inputRow}>
        <IconButton
          ref={emojiButton}
          icon="smile"
          label="Insert emoji"
          aria-expanded={picking}
          onClick={() => setPicking(!picking)}
        />
        <textarea
          ref={field}
          id="composer"
          className={styles.input}
          rows={1}
          aria-label={`Message ${room.title}`}
          placeholder={`Message ${room.title}`}
          value={text}
          onChange={(event) => change(event.target.value)}
          onKeyDown={keys}
          onBlur={() => model.typing(false)}
        />
        <button type="submit" className={styles.send} aria-label="Send" title="Send" disabled={!sendable}>
          <Icon name="send" size={20} />
        </button>
      </div>
      {left < WARN_BYTES && (
        <p className={styles.left} data-over={left < 0 || undefined} role="status">
          {left < 0 ? `${-left} characters too long` : `${left} characters left`}
        </p>
      )}
      {picking && (
        <EmojiPicker anchor={emojiButton} align="start" onPick={insert} onClose={() => setPicking(false)} />
      )}
    </form>
  );
}

function ReplyBar({ model, seq }: { model: RoomModel; seq: number }) {
  const message = model.timeline.message(seq);
  const name = useName(message?.sender ?? '');
  return (
    <div className={styles.replyBar}>
      <Icon name="reply" size={16} />
      <span className={styles.replyText}>
        <b>{name}</b> {message?.body}
      </span>
      <IconButton icon="close" label="Cancel reply" size="s" onClick={() => model.setReply(null)} />
    </div>
  );
}
