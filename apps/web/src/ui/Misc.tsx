// Small pieces many pages share: empty states, the waiting indicator, toasts.

import type { ReactNode } from 'react';
import type { Toasts } from '../state/toasts';
import { useStore } from '../app/hooks';
import { IconButton } from './Button';
import { Icon, type IconName } from './Icon';
import styles from './misc.module.css';

interface EmptyProps {
  icon: IconName;
  title: string;
  /** Set where this is the whole page, so that its title is the page's heading. */
  page?: boolean;
  children?: ReactNode;
}

/** What stands where there is nothing yet, and what to do about it. */
export function Empty({ icon, title, page = false, children }: EmptyProps) {
  const Heading = page ? 'h1' : 'h2';
  return (
    <div className={styles.empty}>
      <span className={styles.emptyIcon}>
        <Icon name={icon} size={24} />
      </span>
      <Heading className={styles.emptyTitle}>{title}</Heading>
      {children}
    </div>
  );
}

export function Spinner({ label }: { label: string }) {
  return (
    <div className={styles.spinnerBox} role="status">
      <span className={styles.spinner} aria-hidden="true" />
      <span className="visually-hidden">{label}</span>
    </div>
  );
}

export function ToastList({ toasts }: { toasts: Toasts }) {
  const list = useStore(toasts.list);
  return (
    <div className={styles.toasts} role="status">
      {list.map((toast) => (
        <div key={toast.id} className={styles.toast} data-tone={toast.tone}>
          <span>{toast.text}</span>
          <IconButton icon="close" label="Dismiss" size="s" onClick={() => toasts.dismiss(toast.id)} />
        </div>
      ))}
    </div>
  );
}
