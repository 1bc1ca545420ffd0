// What becomes a link, a mention or code, and what stays text.

import { describe, expect, it } from 'vitest';
import { initials, slugOf } from './identity';
import { isEmojiOnly, parseMarkup } from './markup';

const kinds = (body: string) => parseMarkup(body).map((piece) => [piece.kind, piece.text]);

describe('parseMarkup', () => {
  it('links web addresses without the punctuation around them', () => {
    expect(kinds('see (https://a.example/x_(y)), or https://b.example/?q=1.')).toEqual([
      ['text', 'see ('],
      ['link', 'https://a.example/x_(y)'],
      ['text', '), or '],
      ['link', 'https://b.example/?q=1'],
      ['text', '.'],
    ]);
  });

  it('makes no link of any other scheme, and no HTML of anything', () => {
    for (const body of [
      'javascript:alert(1)',
      '<img src=x onerror=alert(1)>',
      'data:text/html,x',
      'https://',
    ]) {
      expect(parseMarkup(body)).toEqual([{ kind: 'text', text: body }]);
    }
  });

  it('leaves what stands in code alone', () => {
    expect(kinds('run `curl https://a.example` @ada')).toEqual([
      ['text', 'run '],
      ['code', 'curl https://a.example'],
      ['text', ' '],
      ['mention', '@ada'],
    ]);
    expect(kinds('```rust\nlet x = `1`;\n```')).toEqual([['block', 'let x = `1`;']]);
  });

  it('does not take an e-mail address for a mention', () => {
    expect(kinds('ada@example.org, @ben.')).toEqual([
      ['text', 'ada@example.org, '],
      ['mention', '@ben'],
      ['text', '.'],
    ]);
  });
});

it('tells emoji from text', () => {
  expect(['🎉', '👍🏽 👩‍💻', '🇩🇪'].map(isEmojiOnly)).toEqual([true, true, true]);
  expect(['12', 'ok 👍', '🎉🎉🎉🎉', ''].map(isEmojiOnly)).toEqual([false, false, false, false]);
});

it('makes initials and slugs of any name', () => {
  expect(['Ada Lovelace', 'ada', 'Jean-Luc Picard', 'Éva', '李雷', '  '].map(initials)).toEqual([
    'AL',
    'AD',
    'JP',
    'ÉV',
    '李雷',
    '?',
  ]);
  expect(['Design Crit', 'Größe & Maß!', '  --x', '日本'].map(slugOf)).toEqual([
    'design-crit',
    'grosse-mass',
    'x',
    '',
  ]);
});
