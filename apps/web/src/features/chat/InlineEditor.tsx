// Changing a message where it stands. Enter saves, Esc leaves it as it was.

import { useEffect, useRef, useState } from 'react';
import { Button } from '../../ui/Button';
import styles from './message.module.css';
import { useAutoGrow } from './useAutoGrow';

interface InlineEditorProps {
  body: string;
  onSave(body: string): Promise<void>;
  onCancel(): void;
}

export function InlineEditor({ body, onSave, onCancel }: InlineEditorProps) {
  const [text, setText] = useState(body);
  const [saving, setSaving] = useState(false);
  const ref = useRef<HTMLTextAreaElement>(null);
  useAutoGrow(ref, text);
  useEffect(() => {
    const field = ref.current;
    field?.focus();
    field?.setSelectionRange(field.value.length, field.value.length);
    field?.scrollIntoView({ block: 'nearest' });
  }, []);
  const save = () => {
    const trimmed = text.trim();
    if (saving) return;
    if (trimmed === '' || trimmed === body) {
      onCancel();
      return;
    }
    setSaving(true);
    void onSave(trimmed).finally(() => setSaving(false));
  };
  return (
    <div className={styles.editor}>
      <textarea
        ref={ref}
        rows={1}
        aria-label="Edit message"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.nativeEvent.isComposing) return;
          if (event.key === 'Escape') {
            event.stopPropagation();
            onCancel();
          } else if (event.key === 'Enter' && !event.shiftKey) {
            event.preventDefault();
            save();
          }
        }}
      />
      <div className={styles.editorActions}>
        <span className={styles.editorHint}>Enter to save, Esc to cancel</span>
        <Button size="s" variant="ghost" onClick={onCancel}>
          Cancel
        </Button>
        <Button size="s" variant="primary" busy={saving} onClick={save}>
          Save
        </Button>
      </div>
    </div>
  );
}
