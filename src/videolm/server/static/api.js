// The server's API: every call carries the key where there is one, and every failure becomes an error in words.

import { events } from "./sse.js";
import { load, save } from "./storage.js";

/** What the server refused, or why it could not be asked. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

const UNREACHABLE = "The server cannot be reached. Check that it is running, then try again.";
const BROKEN_OFF = "The connection broke off before the answer was complete. Try again.";
const NO_KEY = "This server answers only with an API key. Try again and give one.";

export const isAbort = (error) => error?.name === "AbortError";

export class Api {
  #key = load("sessionStorage", "key");
  #asking = null;
  #askForKey;

  /** @param {(wasRefused: boolean) => Promise<string|null>} askForKey */
  constructor(askForKey) {
    this.#askForKey = askForKey;
  }

  get hasKey() {
    return this.#key !== null;
  }

  /** The names of the models that the server has. */
  async models() {
    const body = await this.#json("v1/models", {});
    return body.data.map((model) => model.id);
  }

  /** What the model would see of a medium. */
  inspect(content, numFrames, signal) {
    const body = numFrames === null ? { content } : { content, num_frames: numFrames };
    return this.#json("v1/inspect", { ...post(body), signal });
  }

  async removeFile(id) {
    await this.#json(`v1/files/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  /**
   * Chunks of an answer as they come, until the server says that it is complete.
   * @param {Object} body The request, as the API takes it.
   */
  async *chat(body, signal) {
    const response = await this.#ask("v1/chat/completions", { ...post(body), signal });
    let isComplete = false;
    try {
      for await (const data of events(response.body)) {
        if (data === "[DONE]") {
          isComplete = true;
          return;
        }
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error.message, { status: response.status, code: chunk.error.code });
        yield chunk;
      }
    } catch (error) {
      if (isAbort(error) || error instanceof ApiError) throw error;
      throw new ApiError(BROKEN_OFF);
    }
    if (!isComplete) throw new ApiError(BROKEN_OFF);
  }

  /**
   * Send a file.
   * @param {(share: number) => void} onProgress Called with 0 to 1 while the bytes leave.
   * @returns {Promise<Object>} The file object, with its `id`.
   */
  async upload(file, onProgress, signal) {
    const { status, text } = await this.#withKey((key) => send(file, key, onProgress, signal));
    if (status >= 400) throw refusal(status, parsed(text));
    return JSON.parse(text);
  }

  async #json(path, init) {
    const response = await this.#ask(path, init);
    return response.json();
  }

  async #ask(path, init) {
    const response = await this.#withKey(async (key) => {
      const headers = { ...init.headers, ...bearer(key) };
      try {
        return await fetch(path, { ...init, headers });
      } catch (error) {
        throw isAbort(error) ? error : new ApiError(UNREACHABLE);
      }
    });
    if (!response.ok) throw refusal(response.status, parsed(await response.text()));
    return response;
  }

  /** Send a request, and again with another key as long as the server wants one and the user gives one. */
  async #withKey(request) {
    for (;;) {
      const key = this.#key;
      const response = await request(key);
      if (response.status !== 401) return response;
      // Several requests may be refused at once: the first one asks, the others wait for what is given to it.
      if (this.#key === key) {
        this.#asking ??= this.#askForKey(key !== null).finally(() => (this.#asking = null));
        const given = await this.#asking;
        if (given === null) throw new ApiError(NO_KEY, { status: 401 });
        this.#key = given;
        save("sessionStorage", "key", given);
      }
    }
  }
}

function post(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

function bearer(key) {
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function refusal(status, body) {
  const told = body?.error?.message;
  const words = told || `The server answered with status ${status} and no reason. Try again.`;
  return new ApiError(words, { status, code: body?.error?.code });
}

// fetch does not tell how much of a body has left; XMLHttpRequest does.
function send(file, key, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("purpose", "user_data");
    form.append("file", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", "v1/files");
    for (const [name, value] of Object.entries(bearer(key))) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("load", () => resolve({ status: request.status, text: request.responseText }));
    request.addEventListener("error", () => reject(new ApiError(CUT_OFF)));
    request.addEventListener("abort", () => reject(new DOMException("The upload was stopped.", "AbortError")));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

const CUT_OFF =
  "The upload was cut off: the server cannot be reached, or the file is larger than it takes. " +
  "Check that it is running, or try a smaller file.";
