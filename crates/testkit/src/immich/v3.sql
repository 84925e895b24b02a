-- The tables of Immich v3.1 that say something about files, with their columns and the constraints that matter here.
CREATE TABLE "user" (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text NOT NULL UNIQUE, name text NOT NULL DEFAULT '',
  "isAdmin" boolean NOT NULL DEFAULT false, "storageLabel" text, "profileImagePath" text NOT NULL DEFAULT '');
CREATE TABLE asset (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "ownerId" uuid NOT NULL REFERENCES "user", type text NOT NULL,
  "originalPath" text NOT NULL, "originalFileName" text NOT NULL, checksum bytea NOT NULL,
  "checksumAlgorithm" text NOT NULL DEFAULT 'sha1', "isExternal" boolean NOT NULL DEFAULT false,
  "isOffline" boolean NOT NULL DEFAULT false, "libraryId" uuid, "deletedAt" timestamptz,
  status text NOT NULL DEFAULT 'active', visibility text NOT NULL DEFAULT 'timeline', "livePhotoVideoId" uuid,
  "fileCreatedAt" timestamptz NOT NULL DEFAULT now(), "fileModifiedAt" timestamptz NOT NULL DEFAULT now(),
  "createdAt" timestamptz NOT NULL DEFAULT now(), duration integer, "isEdited" boolean NOT NULL DEFAULT false);
CREATE UNIQUE INDEX asset_owner_checksum ON asset ("ownerId", checksum) WHERE "libraryId" IS NULL;
CREATE TABLE asset_exif (
  "assetId" uuid PRIMARY KEY REFERENCES asset ON DELETE CASCADE, "fileSizeInByte" bigint, description text NOT NULL DEFAULT '');
CREATE TABLE asset_file (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "assetId" uuid NOT NULL REFERENCES asset ON DELETE CASCADE,
  type text NOT NULL, path text NOT NULL, "isEdited" boolean NOT NULL DEFAULT false, UNIQUE ("assetId", type, "isEdited"));
CREATE TABLE person (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "ownerId" uuid NOT NULL REFERENCES "user", name text NOT NULL DEFAULT '',
  "thumbnailPath" text NOT NULL DEFAULT '');
CREATE TABLE move_history (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "entityId" uuid NOT NULL, "pathType" text NOT NULL,
  "oldPath" text NOT NULL, "newPath" text NOT NULL UNIQUE, UNIQUE ("entityId", "pathType"));
CREATE TABLE smart_search ("assetId" uuid PRIMARY KEY REFERENCES asset ON DELETE CASCADE, embedding real[]);
CREATE TABLE system_metadata (key text PRIMARY KEY, value jsonb NOT NULL);
CREATE TABLE version_history (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "createdAt" timestamptz NOT NULL DEFAULT now(), version text NOT NULL);
CREATE TABLE kysely_migrations (name text PRIMARY KEY, "timestamp" text NOT NULL);
INSERT INTO version_history (version) VALUES ('3.1.0');
INSERT INTO kysely_migrations VALUES ('1752267649968-StandardizeNames', '2026-07-27T00:00:00Z'), ('1780000000000-Last', '2026-07-27T00:00:01Z');
INSERT INTO system_metadata VALUES ('MediaLocation', '{"location": "/data"}'), ('system-flags', '{"mountChecks": {"upload": true}}');
INSERT INTO "user" (id, email, "isAdmin", "storageLabel") VALUES ('11111111-1111-4111-8111-111111111111', 'a@example.org', true, 'admin');
