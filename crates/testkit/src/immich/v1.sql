-- The same of Immich v1.135: plural names, other columns, another order.
CREATE TABLE users (id uuid PRIMARY KEY, email text NOT NULL, "profileImagePath" text NOT NULL DEFAULT '');
CREATE TABLE assets (
  "deviceAssetId" text NOT NULL DEFAULT '', "ownerId" uuid NOT NULL, "deviceId" text NOT NULL DEFAULT '', type text NOT NULL,
  "encodedVideoPath" text DEFAULT '', id uuid PRIMARY KEY, "sidecarPath" text, checksum bytea NOT NULL,
  "isExternal" boolean NOT NULL DEFAULT false, "libraryId" uuid, "deletedAt" timestamptz,
  status text NOT NULL DEFAULT 'active', "originalFileName" text NOT NULL, "originalPath" text NOT NULL);
CREATE TABLE asset_files (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "assetId" uuid NOT NULL, type text NOT NULL, path text NOT NULL);
CREATE TABLE person (id uuid PRIMARY KEY, "thumbnailPath" text NOT NULL DEFAULT '');
CREATE TABLE move_history (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "entityId" text NOT NULL, "pathType" text NOT NULL,
  "oldPath" text NOT NULL, "newPath" text NOT NULL);
CREATE TABLE system_metadata (key text PRIMARY KEY, value jsonb NOT NULL);
CREATE TABLE kysely_migrations (name text PRIMARY KEY, "timestamp" text NOT NULL);
INSERT INTO users VALUES ('11111111-1111-4111-8111-111111111111', 'a@example.org');
