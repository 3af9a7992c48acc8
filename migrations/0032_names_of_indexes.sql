-- What 0028 built beside the indexes of these names takes their places, and their names: errors are
-- told apart by them.
drop index invites_open_key;
alter index invites_open_key_new rename to invites_open_key;
drop index api_keys_held_name_key;
alter index api_keys_held_name_key_new rename to api_keys_held_name_key;
