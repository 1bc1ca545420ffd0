// A part of a settings page: a heading, a word about it, and what it holds.

import { type ReactNode, useId } from 'react';
import styles from './security.module.css';

interface SectionProps {
  title: string;
  lead?: ReactNode;
  action?: ReactNode;
  children?: ReactNode;
}

export function Section({ title, lead, action, children }: SectionProps) {
  const id = useId();
  return (
    <section className={styles.section} aria-labelledby={id}>
      <div className={styles.head}>
        <div>
          <h2 id={id} className={styles.title}>
            {title}
          </h2>
          {lead && <p className={styles.text}>{lead}</p>}
        </div>
        {action}
      </div>
      {children}
    </section>
  );
}
