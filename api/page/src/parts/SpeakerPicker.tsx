// A speaker by name; the browser offers those that fit what is typed so far.
import { useId, useState } from "preact/hooks";

import { speakers } from "../api/calls";
import { useLoad, useSettled } from "../lib/hooks";
import { Field } from "./Basics";
import { useSession } from "./Session";

interface Asked {
  gallery: string;
  name: string;
  value: string;
  onValue: (speaker: string) => void;
  hint?: string;
  /** A speaker who is not offered: the one who is merged, say. */
  except?: string;
}

const OFFERED = 20;

export function SpeakerPicker({ gallery, name, value, onValue, hint, except }: Asked) {
  const session = useSession();
  const id = useId();
  const [typed, setTyped] = useState(value);
  const asked = useSettled(typed);
  const { data } = useLoad(
    async (signal) => (session.may("read") ? speakers.list(gallery, { q: asked, limit: OFFERED }, signal) : null),
    [gallery, asked],
  );
  return (
    <>
      <Field name={name} {...(hint && { hint })}>
        <input
          list={id}
          required
          autocomplete="off"
          value={value}
          placeholder="Type a name"
          onInput={(event) => {
            setTyped(event.currentTarget.value);
            onValue(event.currentTarget.value);
          }}
        />
      </Field>
      <datalist id={id}>
        {data?.items.filter((one) => one.name !== except).map((one) => <option key={one.name} value={one.name} />)}
      </datalist>
    </>
  );
}
