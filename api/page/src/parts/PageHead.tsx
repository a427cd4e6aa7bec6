import type { ComponentChildren } from "preact";

export function PageHead(shown: { title: string; lead?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <div>
        <h1>{shown.title}</h1>
        {shown.lead && <p class="muted">{shown.lead}</p>}
      </div>
      {shown.children && <div class="row">{shown.children}</div>}
    </header>
  );
}
