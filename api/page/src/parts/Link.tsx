// A link to a page that needs the scope `read`; to other keys, its words.
import type { ComponentChildren } from "preact";

import { useSession } from "./Session";

export function Link({ href, look, children }: { href: string; look?: string; children: ComponentChildren }) {
  const session = useSession();
  if (!session.may("read")) return <span class={look}>{children}</span>;
  return (
    <a class={look} href={href}>
      {children}
    </a>
  );
}
