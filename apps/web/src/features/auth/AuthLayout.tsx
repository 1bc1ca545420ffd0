// The frame of the pages before signing in.

import type { ReactNode } from 'react';
import { Logo } from '../../ui/Icon';
import styles from './auth.module.css';

export function AuthLayout({ title, lead, children }: { title: string; lead: string; children: ReactNode }) {
  return (
    <div className={styles.page}>
      <main className={styles.card}>
        <div className={styles.brand}>
          <Logo size={40} />
          <span>Stack</span>
        </div>
        <h1 className={styles.title}>{title}</h1>
        <p className={styles.lead}>{lead}</p>
        {children}
      </main>
    </div>
  );
}
