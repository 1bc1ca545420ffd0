// The text of a message, with links, code and mentions set apart. Everything stays text.

import { memo, type ReactNode } from 'react';
import { useChat } from '../../app/context';
import { isEmojiOnly, type Piece, parseMarkup } from '../../lib/markup';
import styles from './message.module.css';

interface MessageBodyProps {
  body: string;
  /** Stands behind the last word. */
  after?: ReactNode;
}

export const MessageBody = memo(function MessageBody({ body, after }: MessageBodyProps) {
  const own = useChat().me.get().username.toLowerCase();
  if (isEmojiOnly(body)) {
    return (
      <div className={styles.bigEmoji} data-body>
        {body}
        {after}
      </div>
    );
  }
  // The pieces of one text never change places, so their position names them.
  return (
    <div className={styles.body} data-body>
      {parseMarkup(body).map((piece, index) => draw(piece, `${index}`, own))}
      {after}
    </div>
  );
});

function draw(piece: Piece, key: string, own: string) {
  switch (piece.kind) {
    case 'link':
      return (
        <a key={key} href={piece.href} target="_blank" rel="noopener noreferrer nofollow">
          {piece.text}
        </a>
      );
    case 'code':
      return (
        <code key={key} className={styles.code}>
          {piece.text}
        </code>
      );
    case 'block':
      return (
        <pre key={key} className={styles.block}>
          <code>{piece.text}</code>
        </pre>
      );
    case 'mention':
      return (
        <span key={key} className={styles.mention} data-own={piece.username === own || undefined}>
          {piece.text}
        </span>
      );
    default:
      return piece.text;
  }
}
