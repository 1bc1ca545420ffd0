// Splits a message into plain text, links, code and mentions. It yields data, never HTML, so nothing a
// person types can become part of the page.

export type Piece =
  | { kind: 'text'; text: string }
  | { kind: 'link'; text: string; href: string }
  | { kind: 'code'; text: string }
  | { kind: 'block'; text: string }
  | { kind: 'mention'; text: string; username: string };

const PATTERN =
  /```(?:[a-z0-9+-]*\n)?([\s\S]+?)```|`([^`\n]+)`|(https?:\/\/[^\s<>"`]+)|(?<![\p{L}\p{N}_@/.])@([a-zA-Z0-9][a-zA-Z0-9._-]*)/gu;

/** Punctuation after an address belongs to the sentence, and so does a bracket that was opened before it. */
function trimLink(text: string): string {
  let link = text;
  for (;;) {
    const last = link.at(-1) ?? '';
    const unbalanced = last === ')' && link.split(')').length > link.split('(').length;
    if (!/[.,;:!?'*_~\]]/.test(last) && !unbalanced) return link;
    link = link.slice(0, -1);
  }
}

function safeHref(text: string): string | null {
  try {
    const url = new URL(text);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
  } catch {
    return null;
  }
}

/** The pieces of a message in order; joined, their texts give back what was written, without code fences. */
export function parseMarkup(body: string): Piece[] {
  const pieces: Piece[] = [];
  let plainFrom = 0;
  const plainUntil = (end: number) => {
    if (end > plainFrom) pieces.push({ kind: 'text', text: body.slice(plainFrom, end) });
  };
  for (const match of body.matchAll(PATTERN)) {
    const [whole, block, code, address, username] = match;
    let length = whole.length;
    let piece: Piece;
    if (block !== undefined) piece = { kind: 'block', text: block.replace(/\n$/, '') };
    else if (code !== undefined) piece = { kind: 'code', text: code };
    else if (address !== undefined) {
      const text = trimLink(address);
      const href = safeHref(text);
      if (href === null) continue;
      length = text.length;
      piece = { kind: 'link', text, href };
    } else {
      const name = (username ?? '').replace(/[._-]+$/, '');
      length = name.length + 1;
      piece = { kind: 'mention', text: `@${name}`, username: name.toLowerCase() };
    }
    plainUntil(match.index);
    pieces.push(piece);
    plainFrom = match.index + length;
  }
  plainUntil(body.length);
  return pieces;
}

/** Up to three emoji and nothing else, which is shown larger. */
export function isEmojiOnly(body: string): boolean {
  const text = body.replace(/\s/g, '');
  if (text === '' || text.length > 40) return false;
  const graphemes = [...new Intl.Segmenter(undefined, { granularity: 'grapheme' }).segment(text)];
  return (
    graphemes.length <= 3 &&
    graphemes.every(({ segment }) => /\p{Extended_Pictographic}|\p{Regional_Indicator}/u.test(segment))
  );
}
