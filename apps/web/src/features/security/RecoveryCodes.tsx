// The recovery codes, shown once.

import { useChat } from '../../app/context';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { CopyButton } from './CopyField';
import styles from './security.module.css';

export function RecoveryCodes({ codes, onClose }: { codes: readonly string[]; onClose(): void }) {
  const chat = useChat();
  const save = () => {
    const text = `Recovery codes of @${chat.me.get().username} at ${location.host}\n\n${codes.join('\n')}\n`;
    const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
    const link = document.createElement('a');
    link.href = url;
    link.download = 'recovery-codes.txt';
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <Dialog title="Your recovery codes" onClose={onClose}>
      <div className={styles.question}>
        <p className={styles.text}>
          Each signs you in once when the app is lost. They are not shown again, so keep them now, where the
          app is not.
        </p>
        <ol className={styles.codes} aria-label="Recovery codes">
          {codes.map((code) => (
            <li key={code}>
              <code>{code}</code>
            </li>
          ))}
        </ol>
        <DialogActions>
          <CopyButton text={codes.join('\n')} />
          <Button onClick={save}>
            <Icon name="download" size={18} />
            Save
          </Button>
          <Button variant="primary" onClick={onClose}>
            I kept them
          </Button>
        </DialogActions>
      </div>
    </Dialog>
  );
}
